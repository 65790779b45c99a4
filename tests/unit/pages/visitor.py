"""The browser of somebody in front of a service."""

from __future__ import annotations

from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

PASSWORD = "seven wooden horses"


class Visitor:
    """Asks for pages and sends forms as browsers do.

    Parameters
    ----------
    app : Flask
    origin : str
        How the service is called.
    """

    def __init__(self, app: Flask, origin: str) -> None:
        self.app = app
        self.origin = origin
        self.browser: FlaskClient = app.test_client()

    def get(self, path: str, **headers: str) -> TestResponse:
        sent = {"Accept": "text/html,*/*;q=0.8", **headers}
        return self.browser.get(path, base_url=self.origin, headers=sent, buffered=True)

    def post(self, path: str, fields: dict[str, Any] | None = None, **headers: str) -> TestResponse:
        sent = {"Accept": "text/html,*/*;q=0.8", "Origin": self.origin, **headers}
        return self.browser.post(path, base_url=self.origin, data=fields or {}, headers=sent)

    def sign_up(self) -> TestResponse:
        """Become the first user, and so an operator."""
        return self.post("/sign-up", {"name": "Ada", "email": "ada@example.org", "password": PASSWORD})
