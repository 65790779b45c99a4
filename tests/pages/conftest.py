"""A browser, and the pages of the town's services in it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.integration.conftest import Town
from tests.pages.visitor import Visitor

CHROMIUM = shutil.which("chromium")

Enter = Callable[[str], Visitor]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no chromium is installed: apt-get install chromium")
    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-background-networking"]
        made = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        yield made
        made.close()


@pytest.fixture
def enter(browser: Browser, town: Town) -> Iterator[Enter]:
    """Open a service of the town, by its name, in a browser of its own where its operator is logged in."""
    opened: list[Visitor] = []

    def made(name: str) -> Visitor:
        visitor = Visitor(browser, town.services[name].url)
        opened.append(visitor)
        visitor.carry(town.services[name])
        return visitor

    yield made
    for visitor in opened:
        visitor.context.close()
