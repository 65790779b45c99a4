"""A browser, and the pages of the town's services in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser

from scripts.local import browsing
from tests.integration.conftest import Town
from tests.pages.visitor import Visitor

Enter = Callable[[str], Visitor]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if browsing.CHROMIUM is None:
        pytest.skip("no chromium is installed: apt-get install chromium")
    with browsing.browser() as made:
        yield made


@pytest.fixture
def enter(browser: Browser, town: Town) -> Iterator[Enter]:
    """Open a service of the town, by its name, in a browser of its own where its operator is logged in."""
    opened: list[Visitor] = []

    def made(name: str) -> Visitor:
        service = town.services[name]
        opened.append(Visitor(browsing.enter(browser, service), service.url))
        return opened[-1]

    yield made
    for visitor in opened:
        visitor.context.close()
