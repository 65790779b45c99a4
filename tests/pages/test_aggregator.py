"""The aggregator's status pages in a real browser, while a real training runs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from scripts.local import diabetes, flow
from scripts.local.platform import REPOSITORY, LocalPlatform, Ports

AXE = REPOSITORY / "node_modules" / "axe-core" / "axe.min.js"
OWNERS = 3
PASSWORD = "seven wooden horses"


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[LocalPlatform]:
    with LocalPlatform(tmp_path, Ports.free(OWNERS)) as made:
        made.start()
        yield made


@pytest.fixture
def operator(browser: Browser, platform: LocalPlatform) -> Iterator[Page]:
    """The aggregator's start page, before its operator. Its policy holds for the page, not for axe."""
    url = platform.urls["aggregator"].replace("127.0.0.1", "localhost")
    context = browser.new_context(base_url=url, locale="en-GB")
    page = context.new_page()
    page.goto("/")
    yield page
    context.close()


def figure(page: Page, name: str) -> str:
    return " ".join(page.locator(f'dt:text-is("{name}") + dd').first.inner_text().split())


def require_accessible(page: Page) -> None:
    session = page.context.new_cdp_session(page)
    source = AXE.read_text() + "; axe.run().then((found) => JSON.stringify(found.violations))"
    # By the debugger, since the page lets no script in.
    found = session.send("Runtime.evaluate", {"expression": source, "awaitPromise": True})["result"]["value"]
    serious = re.findall(r'"id":"([^"]+)","impact":"(?:serious|critical)"', found)
    assert serious == [], found[:2000]


def require_narrow(page: Page) -> None:
    for width in (360, 1440):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_an_operator_watches_a_training_without_reloading(platform: LocalPlatform, operator: Page) -> None:
    page, complaints = operator, []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    for name, value in {"name": "Ada", "email": "ada@example.org", "password": PASSWORD}.items():
        page.locator(f'[name="{name}"]').fill(value)
    page.get_by_role("button", name="Create the account").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Status")
    expect(page.get_by_text("No data owner has registered yet.")).to_be_visible()

    tables = diabetes.split(OWNERS, 50)
    members = [
        flow.enter(flow.Owner(url), f"owner-{number}", diabetes.to_csv(table))
        for number, (url, table) in enumerate(zip(platform.owner_urls, tables, strict=True), start=1)
    ]
    buyer = flow.Buyer(platform.urls["buyer"])
    buyer_id, _ = buyer.sign_up("buyer")
    training_id = buyer.order(
        flow.order_for(
            buyer_id,
            diabetes.FEATURES,
            hyper_parameters={"iterations": 60, "learning_rate": 1.5, "evaluation_interval": 20},
            participants={"wanted": OWNERS, "minimum": OWNERS},
        )
    )
    line = page.locator(f"#training-{training_id}")
    expect(line).to_contain_text("Joining", timeout=20_000)
    page.goto(f"/training/{training_id}")
    for member in members:
        member.owner.wait_for_status(training_id, "READY")
        member.owner.accept(training_id)
    bars = page.locator("section:has(#rounds-title) svg rect")
    expect(bars).not_to_have_count(0, timeout=60_000)
    buyer.wait_finished(training_id)
    expect(page.locator(".state").first).to_have_text("Finished", timeout=20_000)
    expect(page.locator('dt:text-is("State on chain") + dd')).to_have_text("FINISHED", timeout=20_000)
    page.reload()

    expect(bars).to_have_count(59)
    pace = float(figure(page, "Rounds per minute").split()[1])  # on average
    took = {each["name"]: each["seconds"] for each in phases_of(platform, training_id)}
    assert 0 < pace < 60 * 60 / took["rounds"] * 1.5
    rows = page.locator("section:has(#owners-title) tbody tr").all()
    assert len(rows) == OWNERS
    for row in rows:
        cells = row.locator("td").all_inner_texts()
        median, slow, answers = cells[1], cells[2], int(cells[3])
        assert 0 < seconds(median) <= seconds(slow) < 30
        trains = "trains" in row.locator("th").inner_text()
        assert answers >= (60 if trains else 4) and cells[4:] == ["0", "0", "0"]
    assert re.fullmatch("[0-9a-f]{64}", figure(page, "Root of the transcript"))
    assert figure(page, "State on chain") == "FINISHED" and figure(page, "Dispute") == "none"
    require_accessible(page)
    require_narrow(page)

    page.get_by_role("link", name="Back to the status").click()
    assert figure(page, "Chain") == "Connected" and int(figure(page, "Newest block")) > 5
    assert figure(page, "Chain ID") == "31337" and figure(page, "Balance").endswith(" ETH")
    assert int(figure(page, "Unanswered questions")) == 0
    require_accessible(page)
    require_narrow(page)
    platform.kill("chain")
    expect(page.locator('dt:text-is("Chain") + dd').first).to_have_text("Not reachable", timeout=30_000)
    assert int(figure(page, "Newest block")) > 5  # as it was seen last
    assert complaints == []


def phases_of(platform: LocalPlatform, training_id: str) -> list[flow.Json]:
    service = flow.Aggregator(platform.urls["aggregator"])
    service.log_in("ada@example.org", PASSWORD)
    phases: list[flow.Json] = service.training(training_id)["phases"]
    return phases


def seconds(text: str) -> float:
    number, unit = text.split()
    return float(number) / {"s": 1, "ms": 1000}[unit]
