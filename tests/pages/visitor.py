"""Somebody at a browser."""

from __future__ import annotations

from playwright.sync_api import Browser, BrowserContext, Page, expect

from scripts.local import diabetes

EMAIL = "ada@example.org"
PASSWORD = "seven wooden horses"
ORDER = {
    "name": "diabetes progression",
    "payments_requirements.pay_for_model.value": "5",
    "data_requirements.features.list": ", ".join(diabetes.FEATURES),
    "data_requirements.features.range.0": "-2",
    "data_requirements.features.range.1": "2",
    "data_requirements.target.range.0": "25",
    "data_requirements.target.range.1": "346",
    "hyper_parameters.iterations": "40",
    "hyper_parameters.learning_rate": "1.5",
}
"""What is filled into the form of an order of a model of the Diabetes data."""


class Visitor:
    """Somebody at a browser, who notes what it complains about, and what it asks for."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        self.url = url
        self.context = context
        self.complaints: list[str] = []
        self.requested: set[str] = set()
        self.page = self.open()

    def open(self) -> Page:
        """Return another tab."""
        page = self.context.new_page()
        page.on("console", lambda message: self.complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.requested.add(request.url))
        return page

    def press(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).click()

    def follow(self, name: str) -> None:
        self.page.get_by_role("link", name=name, exact=True).first.click()

    def fill(self, **values: str) -> None:
        for name, value in values.items():
            self.page.locator(f'[name="{name}"]').fill(value)

    def sign_up(self) -> None:
        """Become the service's first user."""
        self.page.goto("/")
        self.fill(name="Ada", email=EMAIL, password=PASSWORD)
        self.press("Create the account")
        expect(self.page.locator(".notice").first).to_contain_text("Welcome")


def visit(browser: Browser, url: str) -> Visitor:
    """Return somebody whom a service has never seen."""
    return Visitor(browser.new_context(base_url=url, locale="en-GB"), url)
