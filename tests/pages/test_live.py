"""An open page shows what happens, as it happens."""

from __future__ import annotations

import time

from playwright.sync_api import expect

from tests.integration.conftest import Town
from tests.pages.conftest import Enter

NOTE_POINTS = (
    "window.seen = []; document.getElementById('live').addEventListener('measured',"
    " (event) => JSON.parse(event.detail.data).points.forEach(([iteration]) => window.seen.push(iteration)))"
)


def test_requests_appear_and_the_curve_grows_without_a_reload(enter: Enter, town: Town) -> None:
    requests = enter("owner-1").page
    requests.goto("/")
    training = town.order(hyper_parameters={"iterations": 60, "learning_rate": 1.5, "evaluation_interval": 5})
    expect(requests.locator(f"a[href='/training/{training}']")).to_be_visible(timeout=30_000)
    page = enter("buyer").page
    page.goto(f"/training/{training}")
    expect(page.locator("#curve")).to_have_text("The curve begins with the first measurement.")
    page.evaluate(NOTE_POINTS)
    town.accept(training)
    seen: set[int] = set()
    deadline = time.monotonic() + 120
    while len(seen) < 6 and time.monotonic() < deadline:
        seen.update(page.evaluate("window.seen || []"))  # the page is loaded again at the end
        time.sleep(0.05)
    assert len(seen) >= 6
    town.buyer.wait_finished(training)
    expect(page.locator("#curve canvas")).to_be_visible()
