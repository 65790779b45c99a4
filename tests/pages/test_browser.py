"""The model buyer's pages in a real browser, against real services on a real chain."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright

from scripts.local import diabetes, flow
from scripts.local.platform import LocalPlatform, Ports

CHROMIUM = shutil.which("chromium")
OWNERS = 3
PASSWORD = "seven wooden horses"

EXPECTED = ("Failed to load resource: ", "htmx: htmx:error: ", "htmx: htmx:sse:error: ")
"""What browsers say of refused forms, and of the service that is killed."""

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed: apt-get install chromium")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-background-networking"]
        made = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        yield made
        made.close()


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalPlatform]:
    with LocalPlatform(tmp_path_factory.mktemp("pages"), Ports.free(OWNERS)) as made:
        made.start()
        yield made


@pytest.fixture(scope="module")
def members(platform: LocalPlatform) -> list[flow.Member]:
    tables = diabetes.split(OWNERS, 50)
    return [
        flow.enter(flow.Owner(url), f"owner-{number}", diabetes.to_csv(table))
        for number, (url, table) in enumerate(zip(platform.owner_urls, tables, strict=True), start=1)
    ]


class Visitor:
    """Somebody at a browser, who notes what the browser complains about."""

    def __init__(self, browser: Browser, url: str) -> None:
        self.context = browser.new_context(base_url=url.replace("127.0.0.1", "localhost"), locale="en-GB")
        self.complaints: list[str] = []
        self.requested: set[str] = set()
        self.page = self.open()

    def open(self) -> Page:
        page = self.context.new_page()
        page.on("console", lambda message: self.complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.requested.add(request.url))
        return page

    def press(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).click()

    def fill(self, **values: str) -> None:
        for name, value in values.items():
            self.page.locator(f'[name="{name}"]').fill(value)

    def width(self) -> int:
        return int(self.page.evaluate("document.documentElement.scrollWidth"))


def later(route: Route) -> None:
    time.sleep(0.5)
    route.continue_()


def test_a_buyer_orders_watches_and_predicts_by_clicks(
    browser: Browser, platform: LocalPlatform, members: list[flow.Member], tmp_path: Path
) -> None:
    buyer = Visitor(browser, platform.urls["buyer"])
    page = buyer.page

    page.goto("/")
    expect(page).to_have_title("Create an account · DeltaML")
    buyer.fill(name="Ada", email="ada@example.org", password=PASSWORD)
    buyer.press("Create the account")
    expect(page.get_by_role("status")).to_contain_text("Welcome")

    page.get_by_role("link", name="Order a training").first.click()
    wanted = {
        "name": "diabetes progression",
        "payments_requirements.pay_for_model.value": "5",
        "data_requirements.features.list": ", ".join(diabetes.FEATURES),
        "data_requirements.features.range.0": "-2",
        "data_requirements.features.range.1": "2",
        "data_requirements.target.range.0": "346",
        "data_requirements.target.range.1": "25",
        "hyper_parameters.iterations": "40",
        "hyper_parameters.learning_rate": "1.5",
        "participants.wanted": str(OWNERS),
    }
    buyer.fill(**wanted)
    buyer.press("Order and pay")
    expect(page.get_by_role("alert")).to_contain_text("the lower bound 346 must be below the upper bound 25")
    buyer.fill(**{"data_requirements.target.range.0": "25", "data_requirements.target.range.1": "346"})
    buyer.press("Order and pay")
    state = page.locator("#live .state")
    expect(state).to_have_text("Waiting for data owners", timeout=30_000)

    second = buyer.open()
    second.goto(page.url)
    training_id = page.url.rsplit("/", 1)[1]
    for member in members:
        member.owner.wait_for_status(training_id, "READY")
        member.owner.accept(training_id)
    expect(state).to_have_text("Training", timeout=30_000)
    expect(second.locator("#live .state")).to_have_text("Training", timeout=5_000)
    page.route("**/hx-sse.min.js*", later)
    page.route("**/events", lambda route: route.abort(), times=1)  # as when the service dies just then
    page.reload()
    expect(page.locator("#curve canvas")).to_be_visible()
    platform.kill("buyer")
    platform.restart("buyer")
    expect(state).to_have_text("Finished", timeout=120_000)
    expect(second.locator("#live .state")).to_have_text("Finished", timeout=30_000)

    expect(page.locator("section:has(#payments-title) tbody tr")).not_to_have_count(0)
    expect(page.locator("#record .checked", has_text="Reported result")).to_be_visible()
    expect(page.locator("#record").get_by_text("Settled: everybody was credited")).to_be_visible()
    assert page.locator("section:has(#curve) tbody tr").count() >= 8
    for place in range(len(diabetes.FEATURES)):
        buyer.fill(**{f"rows.0.{place}": "0.01"})
    page.get_by_role("button", name="Predict", exact=True).first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Prediction")
    page.get_by_role("link", name="Back to the training").click()
    rows = tmp_path / "rows.csv"
    rows.write_bytes(diabetes.to_csv(diabetes.split(OWNERS, 50)[0]))
    page.locator("#file").set_input_files(rows)
    page.get_by_role("button", name="Predict", exact=True).last.click()
    expect(page.get_by_text("R²")).to_be_visible()
    page.go_back()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download for scikit-learn").click()
    assert "coef_" in download.value.path().read_text()

    for width in (360, 1440):
        page.set_viewport_size({"width": width, "height": 800})
        for path in (
            "/",
            "/order",
            f"/training/{training_id}",
            f"/training/{training_id}/record",
            "/prediction",
            "/account",
        ):
            page.goto(path)
            assert buyer.width() <= width, (path, width)

    buyer.press("Log out")
    buyer.fill(email="ada@example.org", password="wrong")
    buyer.press("Log in")
    expect(page.get_by_role("alert")).to_contain_text("The e-mail address or the password is wrong")
    page.get_by_role("link", name="Español").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Iniciar sesión")

    assert not [text for text in buyer.complaints if not text.startswith(EXPECTED)]
    own = page.url.split("/login")[0]
    assert all(url.startswith((own, "data:")) for url in buyer.requested)
    buyer.context.close()


def test_the_curve_is_updated_within_a_second_of_a_measurement(
    browser: Browser, platform: LocalPlatform, members: list[flow.Member]
) -> None:
    client = flow.Buyer(platform.urls["buyer"])
    client.log_in("ada@example.org", PASSWORD)
    [user] = client.call("GET", "/users")["users"]
    participants = {"wanted": OWNERS, "minimum": OWNERS}
    parameters = {"iterations": 60, "learning_rate": 1.5, "evaluation_interval": 5}
    body = flow.order_for(user["id"], diabetes.FEATURES, hyper_parameters=parameters, participants=participants)
    training_id = client.order(body)
    buyer = Visitor(browser, platform.urls["buyer"])
    buyer.page.goto(f"/training/{training_id}")
    buyer.fill(email="ada@example.org", password=PASSWORD)
    buyer.press("Log in")
    expect(buyer.page.locator("#curve canvas")).to_be_visible()
    buyer.page.evaluate(
        "window.seen = []; document.getElementById('live').addEventListener('measured',"
        " (event) => JSON.parse(event.detail.data).points.forEach(([n]) => window.seen.push([n, Date.now()])))"
    )
    for member in members:
        member.owner.wait_for_status(training_id, "READY")
        member.owner.accept(training_id)
    seen: dict[int, float] = {}
    deadline = time.monotonic() + 60
    while len(seen) < 6 and time.monotonic() < deadline:
        seen |= {number: at / 1000 for number, at in buyer.page.evaluate("window.seen")}
        time.sleep(0.05)
    client.wait_finished(training_id)
    measured = {each["iteration"]: each["time"] for each in client.model(training_id)["metrics"]["mse_history"]}
    assert len(seen) >= 6
    delays = [at - _seconds(measured[number]) for number, at in seen.items() if number in measured]
    print("seconds from measurement to curve:", [round(delay, 3) for delay in delays])
    assert max(delays) < 1
    buyer.context.close()


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()
