"""Every page can be read and used by everybody: on phones and desks, light and dark, by keyboard and aloud."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from scripts.local import flow
from scripts.local.platform import REPOSITORY
from tests.integration.conftest import Town
from tests.pages.conftest import Enter
from tests.pages.visitor import EMAIL, ORDER, PASSWORD, visit

AXE = REPOSITORY / "node_modules" / "axe-core" / "axe.min.js"
WIDTHS = (360, 1440)
SCHEMES = ("light", "dark")


@pytest.fixture(scope="module")
def axe() -> str:
    if not AXE.exists():
        pytest.skip("axe-core is not installed: npm ci")
    return AXE.read_text()


@pytest.fixture(scope="module")
def trainings(town: Town) -> Iterator[tuple[str, str]]:
    """A training that is finished, and one that waits for data owners."""
    finished = town.train()
    waiting = town.order()
    town.buyer.wait_finished(finished)
    yield finished, waiting
    town.buyer.cancel(waiting)


def barriers(page: Page, axe: str) -> list[str]:
    """Return what axe finds serious on the page that is open, and where."""
    page.evaluate(axe)  # as debuggers do, which the page's policy leaves alone
    found: list[dict[str, Any]] = page.evaluate("axe.run().then((found) => found.violations)")
    return [
        f"{each['id']} ({each['impact']}): {node['target']}: {node['failureSummary']}"
        for each in found
        for node in each["nodes"]
        if each["impact"] in ("serious", "critical")
    ]


TOO_WIDE = """
() => document.documentElement.scrollWidth <= innerWidth ? [] :
  [...document.querySelectorAll("body *")].filter((each) => each.getBoundingClientRect().right > innerWidth
    && !each.parentElement.closest(".scroll")).map((each) => each.outerHTML.slice(0, 200))
"""
"""What is wider than the page, if the page can be moved sideways."""


def look(page: Page, axe: str) -> list[str]:
    """Return what is wrong with the page that is open, on a phone and on a desk, by day and by night."""
    wrong = []
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 800})
        page.wait_for_timeout(200)  # by when charts have adapted
        wrong += [f"{page.url} at {width} scrolls sideways: {each}" for each in page.evaluate(TOO_WIDE)]
        for scheme in SCHEMES:
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # no colours between two
            wrong += [f"{page.url} at {width}, {scheme}: {barrier}" for barrier in barriers(page, axe)]
    return wrong


def test_buyers_pages_have_no_barriers(enter: Enter, trainings: tuple[str, str], axe: str) -> None:
    finished, waiting = trainings
    buyer = enter("buyer")
    page = buyer.page
    wrong = []
    for path in (
        "/",
        "/order",
        "/prediction",
        "/account",
        "/nowhere",
        f"/training/{waiting}/end",
        f"/training/{finished}/record",
    ):
        page.goto(path)
        wrong += look(page, axe)
    for training in trainings:
        page.goto(f"/training/{training}")
        expect(page.locator("#record")).to_contain_text("On-chain record", timeout=30_000)
        expect(page.locator("#curve > *")).to_be_visible()
        for hidden in page.locator("details").all():
            hidden.evaluate("(element) => element.open = true")
        wrong += look(page, axe)
    page.goto(f"/training/{finished}")
    for field in page.locator('[name^="rows.0."]').all():
        field.fill("0.01")
    page.get_by_role("button", name="Predict", exact=True).first.click()
    expect(page).to_have_title("Prediction · DeltaML")
    wrong += look(page, axe)
    page.goto("/order")  # refused, with what is wrong beside it
    page.locator('[name="name"]').fill("lacks everything else")
    page.locator("main form").evaluate("(form) => { form.noValidate = true; form.requestSubmit(); }")
    expect(page.get_by_role("alert")).to_be_visible()
    wrong += look(page, axe)
    buyer.context.clear_cookies()
    page.goto("/")
    expect(page).to_have_title("Log in · DeltaML")
    wrong += look(page, axe)
    assert not wrong, "\n".join(wrong)


def test_owners_pages_have_no_barriers(enter: Enter, trainings: tuple[str, str], axe: str) -> None:
    finished, waiting = trainings
    page = enter("owner-1").page
    page.goto("/data")
    dataset = page.locator("main a[href^='/data/']").first.get_attribute("href")
    wrong = []
    paths = ("/", "/data", dataset, "/account", *(f"/training/{each}" for each in trainings))
    for path in (*paths, f"/training/{waiting}/accept"):
        page.goto(str(path))
        wrong += look(page, axe)
    assert not wrong, "\n".join(wrong)


def test_aggregators_pages_have_no_barriers(enter: Enter, trainings: tuple[str, str], axe: str) -> None:
    page = enter("aggregator").page
    wrong = []
    for path in ("/", *(f"/training/{each}" for each in trainings)):
        page.goto(path)
        wrong += look(page, axe)
    assert not wrong, "\n".join(wrong)


class Typist:
    """Somebody who has a keyboard only, and has to see where it types."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def here(self) -> str:
        """Return the name, text or id of what has the focus, or nothing."""
        return str(
            self.page.evaluate(
                "(({name, id, textContent}) => name || id || textContent.trim())(document.activeElement || {})"
            )
        )

    def tab(self) -> str:
        """Go to the next element, which has to be seen to be the one, and return it as :meth:`here`."""
        self.page.keyboard.press("Tab")
        shown = self.page.evaluate(SHOWS_FOCUS)
        assert shown, f"nobody sees that the focus is on {self.here()!r}"
        return self.here()

    def tab_to(self, wanted: str, most: int = 60) -> None:
        passed = []
        while (here := self.tab()) != wanted:
            passed.append(here)
            assert len(passed) < most, f"{wanted} is not among {passed}"

    def type(self, text: str) -> None:
        self.page.keyboard.press("Control+A")
        self.page.keyboard.type(text)

    def enter(self) -> None:
        self.page.keyboard.press("Enter")


SHOWS_FOCUS = """
() => {
  const focused = document.activeElement;
  if (!focused || focused === document.body) return true;  // between the end of the page and its beginning
  const box = focused.getBoundingClientRect();
  const inside = box.width > 0 && box.height > 0 && box.right > 0 && box.left < innerWidth
    && box.bottom > 0 && box.top < innerHeight;
  const look = () => {
    const style = getComputedStyle(focused);
    return [style.outlineStyle === "none" ? "" : style.outlineWidth + style.outlineColor, style.boxShadow,
      style.backgroundColor, style.borderColor, style.textDecoration].join();
  };
  const chosen = look();
  focused.blur();
  const plain = look();
  focused.focus({ preventScroll: true });
  return inside && (chosen !== plain || focused.classList.contains("skip"));
}
"""
"""Whether what has the focus is in sight, and looks otherwise than without it."""


def test_somebody_logs_in_and_orders_by_keyboard(browser: Browser, town: Town) -> None:
    town.buyer.call("POST", "/users", json={"name": "Ada", "email": EMAIL, "password": PASSWORD, "role": "operator"})
    page = visit(browser, town.buyer.url).page
    page.emulate_media(reduced_motion="reduce")
    page.goto("/login")
    typist = Typist(page)
    assert typist.tab() == "Skip to the content"
    typist.enter()
    assert typist.here() == "content"
    for name, value in (("email", EMAIL), ("password", PASSWORD)):
        typist.tab_to(name)
        typist.type(value)
    typist.enter()
    expect(page).to_have_title("Trainings · DeltaML")
    typist.tab_to("Order a training")
    typist.enter()
    expect(page).to_have_title("Order a training · DeltaML")
    for name, value in ORDER.items():
        typist.tab_to(name)
        typist.type(value)
    typist.tab_to("Order and pay")
    typist.enter()
    expect(page.locator("#live .state")).to_have_text("Waiting for data owners", timeout=30_000)
    ada = flow.Buyer(town.buyer.url)
    ada.log_in(EMAIL, PASSWORD)
    ada.cancel(page.url.rsplit("/", 1)[1])
    page.context.close()
