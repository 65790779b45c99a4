"""The list of trainings in a real browser, while what it shows changes."""

from __future__ import annotations

import threading
from pathlib import Path

from playwright.sync_api import Browser, expect
from werkzeug.serving import make_server

from model_buyer.storage import Status
from tests.unit.pages.buyer import Buyer
from tests.unit.pages.visitor import PASSWORD


def test_list_keeps_up_with_trainings_without_moving_the_focus_and_stops_when_all_are_over(
    browser: Browser, tmp_path: Path
) -> None:
    service = Buyer(tmp_path)
    service.sign_up()
    model = service.model(Status.IN_PROGRESS, name="a model")
    server = make_server("127.0.0.1", 0, service.app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    asked: list[str] = []
    try:
        context = browser.new_context(base_url=f"http://127.0.0.1:{server.server_port}", locale="en-GB")
        page = context.new_page()
        page.on("request", lambda request: asked.append(request.url) if "hx-request" in request.headers else None)
        page.goto("/login")
        page.locator("#email").fill("ada@example.org")
        page.locator("#password").fill(PASSWORD)
        page.get_by_role("button", name="Log in", exact=True).click()
        link = page.get_by_role("link", name="a model")
        link.focus()
        for iteration in (0, 15):
            service.storage.add_metric(model.id, iteration, 10**18)
        expect(page.get_by_text("15 / 20")).to_be_visible(timeout=10_000)
        expect(link).to_be_focused()
        service.storage.move(model.id, Status.FINISHED)
        expect(page.get_by_text("Finished")).to_be_visible(timeout=10_000)
        before = len(asked)
        page.wait_for_timeout(6_000)
        assert len(asked) == before
        context.close()
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        service.close()
