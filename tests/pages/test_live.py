"""An open page shows what happens, as it happens."""

from __future__ import annotations

import statistics
import time
from datetime import datetime

from playwright.sync_api import expect

from tests.integration.conftest import Town
from tests.pages.conftest import Enter

NOTE_POINTS = (
    "window.seen = []; document.getElementById('live').addEventListener('measured',"
    " (event) => JSON.parse(event.detail.data).points.forEach(([n]) => window.seen.push([n, Date.now() / 1000])))"
)


def test_the_curve_is_updated_within_a_second_of_a_measurement(enter: Enter, town: Town) -> None:
    training = town.order(hyper_parameters={"iterations": 60, "learning_rate": 1.5, "evaluation_interval": 5})
    page = enter("buyer").page
    page.goto(f"/training/{training}")
    expect(page.locator("#curve canvas")).to_be_visible()
    page.evaluate(NOTE_POINTS)
    town.accept(training)
    seen: dict[int, float] = {}
    deadline = time.monotonic() + 120
    while len(seen) < 6 and time.monotonic() < deadline:
        seen |= dict(page.evaluate("window.seen || []"))  # the page is loaded again at the end
        time.sleep(0.05)
    town.buyer.wait_finished(training)
    history = town.buyer.model(training)["metrics"]["mse_history"]
    measured = {each["iteration"]: datetime.fromisoformat(each["time"]).timestamp() for each in history}
    delays = [at - measured[iteration] for iteration, at in seen.items() if iteration in measured]
    assert len(delays) >= 6
    assert statistics.median(delays) < 1, delays
