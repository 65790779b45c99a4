"""A real browser at the platform's pages."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, BrowserContext, sync_playwright

from commons.errors import DeltaMLError
from commons.users.sessions import Sessions
from scripts.local.flow import Service

CHROMIUM = shutil.which("chromium")
"""Where Debian's Chromium is, if it is installed."""


@contextmanager
def browser() -> Iterator[Browser]:
    """Run Chromium, which nobody sees, for the length of the block; DeltaMLError if it is not installed."""
    if CHROMIUM is None:
        raise DeltaMLError("no chromium is installed: apt-get install chromium")
    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-background-networking"]
        made = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        yield made
        made.close()


def session(service: Service) -> tuple[str, str]:
    """Return the cookie, name and value, with which pages take a browser for the user of a client.

    A page's cookie holds a token like any other.
    """
    return Sessions(service.url).cookie, service.authorization["Authorization"].removeprefix("Bearer ")


def enter(browser: Browser, service: Service, **options: Any) -> BrowserContext:
    """Return a browser without a past, where the user of a client is logged in.

    Parameters
    ----------
    browser : Browser
    service : Service
        A client that has logged in.
    **options
        Of Playwright's ``Browser.new_context``: ``viewport``, ``color_scheme``, ….
    """
    context = browser.new_context(base_url=service.url, locale="en-GB", **options)
    name, value = session(service)
    context.add_cookies([{"name": name, "value": value, "url": service.url}])
    return context
