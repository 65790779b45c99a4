"""From signing up to a prediction by clicks, on the pages of a buyer, three owners and the aggregator."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from scripts.local import diabetes
from scripts.local.platform import LocalPlatform, Ports
from tests.pages.visitor import EMAIL, ORDER, PASSWORD, Visitor, visit

OWNERS = 3
TABLES = diabetes.split(OWNERS + 1)

EXPECTED = ("Failed to load resource: ", "htmx: htmx:error: ", "htmx: htmx:sse:error: ")
"""What browsers say of refused forms, and of a service that is away."""

LONG_MS = 60_000
"""For what waits for a chain, or for other services."""


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[LocalPlatform]:
    with LocalPlatform(tmp_path, Ports.free(OWNERS)) as made:
        made.start()
        yield made


def csv(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def state(page: Page, text: str) -> None:
    expect(page.locator("#live .state")).to_have_text(text, timeout=LONG_MS)


def upload(owner: Visitor, path: Path) -> None:
    owner.page.goto("/data")
    owner.page.locator("#file").set_input_files(path)
    owner.press("Upload")


def later(route: Route) -> None:
    time.sleep(0.5)
    route.continue_()


def test_everybody_gets_from_signing_up_to_a_prediction_by_clicks(
    browser: Browser, platform: LocalPlatform, tmp_path: Path
) -> None:
    people = {name: visit(browser, platform.urls[name]) for name in platform.services}
    buyer, operator = people["buyer"], people["aggregator"]
    owners = [visitor for name, visitor in people.items() if name.startswith("owner-")]

    for visitor in people.values():
        visitor.sign_up()
    for owner in owners:
        owner.press("Register this service")
        expect(owner.page.locator(".notice").first).to_contain_text("Registered", timeout=LONG_MS)

    # A refused order says why, beside the field, and keeps what was filled in.
    buyer.follow("Order a training")
    buyer.fill(
        **ORDER
        | {
            "participants.wanted": str(OWNERS),
            "data_requirements.target.range.0": "346",
            "data_requirements.target.range.1": "25",
        }
    )
    buyer.press("Order and pay")
    expect(buyer.page.get_by_role("alert")).to_contain_text("the lower bound 346 must be below the upper bound 25")
    buyer.fill(**{"data_requirements.target.range.0": "25", "data_requirements.target.range.1": "346"})
    buyer.press("Order and pay")
    state(buyer.page, "Waiting for data owners")
    path = buyer.page.url.removeprefix(buyer.url)
    second = buyer.open()
    second.goto(path)

    # What does not match, or is no table at all, is refused in words; the right one is not.
    first = owners[0]
    whole = diabetes.to_csv(TABLES[0]).decode()
    upload(first, csv(tmp_path, "words.csv", b"age,target\nold,7\n"))
    expect(first.page.get_by_role("alert")).to_contain_text("old")
    upload(first, csv(tmp_path, "lacking.csv", whole.replace("bmi", "weight", 1).encode()))
    expect(first.page.locator("main")).to_contain_text("You have no column “bmi”.")
    first.page.goto(path)
    state(first.page, "Waiting for data")
    expect(first.page.locator("#live")).to_contain_text("You have no column “bmi”.")
    for owner, table in zip(owners, TABLES, strict=False):
        upload(owner, csv(tmp_path, "rows.csv", diabetes.to_csv(table)))
        expect(owner.page.locator("main")).to_contain_text("It fits: all 50 rows match.", timeout=LONG_MS)

    watcher = first.open()
    watcher.goto(path)
    state(watcher, "Ready to accept")
    for owner in owners:
        owner.page.goto("/")
        owner.press("Read what would be shared")
        expect(owner.page.get_by_role("heading", name="What never leaves this service")).to_be_visible()
        owner.press("Accept")
        expect(owner.page.locator(".notice").first).to_contain_text("You have accepted", timeout=LONG_MS)

    # It is watched live in two tabs, at an owner's and at the aggregator's, reloaded, and its service restarted.
    for page in (buyer.page, second, watcher):
        state(page, "Training")
    operator.page.goto("/")
    operator.page.locator(f"a[href='{path}']").click()
    expect(operator.page.get_by_role("progressbar")).to_be_visible()
    buyer.page.route("**/hx-sse.min.js*", later)
    buyer.page.route("**/events", lambda route: route.abort(), times=1)  # as when the service dies just then
    buyer.page.reload()
    expect(buyer.page.locator("#curve canvas")).to_be_visible()
    platform.kill("buyer")
    platform.restart("buyer")
    for page in (buyer.page, second, watcher):
        state(page, "Finished")
    expect(operator.page.locator("#now .state")).to_have_text("Finished", timeout=LONG_MS)
    for owner in owners:
        owner.page.goto(path)
        expect(owner.page.locator("#live")).to_contain_text("You have earned")

    # What was bought can be used.
    expect(buyer.page.locator("section:has(#payments-title) tbody tr")).not_to_have_count(0)
    assert buyer.page.locator("section:has(#curve) tbody tr").count() >= 8
    record = buyer.page.locator("#record")
    expect(record.locator(".checked", has_text="Reported result")).to_be_visible(timeout=LONG_MS)
    expect(record.get_by_text("Settled: everybody was credited")).to_be_visible()
    buyer.fill(**{f"rows.0.{place}": "0.01" for place in range(len(diabetes.FEATURES))})
    buyer.page.get_by_role("button", name="Predict", exact=True).first.click()
    expect(buyer.page.get_by_role("heading", level=1)).to_have_text("Prediction")
    buyer.follow("Back to the training")
    buyer.page.locator("#file").set_input_files(csv(tmp_path, "buyer.csv", diabetes.to_csv(TABLES[-1])))
    buyer.page.get_by_role("button", name="Predict", exact=True).last.click()
    expect(buyer.page.get_by_text("R²")).to_be_visible()
    buyer.follow("Back to the training")
    with buyer.page.expect_download() as download:
        buyer.follow("Download for scikit-learn")
    assert "coef_" in download.value.path().read_text()

    # Logging out in one tab is logging out in the other, which comes back after a login to where it was.
    buyer.press("Log out")
    for place in range(len(diabetes.FEATURES)):
        second.locator(f'[name="rows.0.{place}"]').fill("0.01")
    second.get_by_role("button", name="Predict", exact=True).first.click()
    expect(second.get_by_role("heading", level=1)).to_have_text("Log in")
    buyer.fill(email=EMAIL, password="wrong")
    buyer.press("Log in")
    expect(buyer.page.get_by_role("alert")).to_contain_text("The e-mail address or the password is wrong")
    buyer.follow("Español")
    expect(buyer.page.get_by_role("heading", level=1)).to_have_text("Iniciar sesión")
    second.locator("#email").fill(EMAIL)
    second.locator("#password").fill(PASSWORD)
    second.get_by_role("button", name="Log in").click()
    expect(second).to_have_url(buyer.url + path)

    for visitor in people.values():
        assert not [text for text in visitor.complaints if not text.startswith(EXPECTED)]
        assert all(url.startswith((visitor.url, "data:")) for url in visitor.requested)
        visitor.context.close()
