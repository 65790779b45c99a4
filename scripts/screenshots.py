"""Takes the pictures of the documentation: starts a platform, has it do something, and looks at its pages."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer
from playwright.sync_api import Browser, Page
from rich.console import Console

from commons.errors import DeltaMLError
from scripts.local import diabetes, flow
from scripts.local.browsing import browser, enter
from scripts.local.command_line import PortBase, exit_on_signals
from scripts.local.demo import HYPER_PARAMETERS, ROWS
from scripts.local.platform import REPOSITORY, LocalPlatform, Ports

IMAGES = REPOSITORY / "docs" / "images"
MOST_BYTES = 150_000
DESK = {"width": 1280, "height": 860}
PHONE = {"width": 360, "height": 720}
LONG = {"iterations": 400, "learning_rate": 1.5, "evaluation_interval": 5}
"""Hyper-parameters of a training that goes on while it is looked at."""


class Photographer:
    """Takes pictures of pages, and refuses those that are too large for the documentation.

    Parameters
    ----------
    browser : Browser
    folder : Path
        Where the pictures go.
    """

    def __init__(self, browser: Browser, folder: Path) -> None:
        self._browser = browser
        self._folder = folder

    def take(
        self,
        name: str,
        service: flow.Service,
        path: str,
        prepare: Callable[[Page], object] = lambda page: None,
        viewport: dict[str, int] = DESK,
        scheme: str = "light",
    ) -> None:
        """Take one picture.

        Parameters
        ----------
        name : str
            Of the file, without its suffix.
        service, path : Service, str
            Whose page, as its client's user sees it.
        prepare : callable
            What is done before, and waited for.
        viewport : dict
            Width and height, in pixels.
        scheme : str
            ``light`` or ``dark``.
        """
        options: dict[str, Any] = {"viewport": viewport, "color_scheme": scheme, "reduced_motion": "reduce"}
        context = enter(self._browser, service, **options)
        page = context.new_page()
        page.goto(path)
        prepare(page)
        picture = page.screenshot(path=self._folder / f"{name}.png", animations="disabled")
        context.close()
        if len(picture) > MOST_BYTES:
            raise DeltaMLError(f"{name}.png has {len(picture)} bytes, and may have {MOST_BYTES}")


def _curve(page: Page) -> None:
    page.locator("#curve canvas").wait_for()


def _again(page: Page) -> None:
    page.wait_for_timeout(1000)  # by when the chain has answered
    page.reload()


def _part(selector: str) -> Callable[[Page], None]:
    def show(page: Page) -> None:
        page.locator(selector).first.evaluate("(element) => element.scrollIntoView()")

    return show


def _wait_for_iterations(buyer: flow.Buyer, training: str, wanted: int) -> None:
    while buyer.model(training)["metrics"]["iterations"] < wanted:
        time.sleep(0.2)


def screenshots(
    folder: Annotated[Path, typer.Option(file_okay=False, help="Where the pictures go.")] = IMAGES,
    port_base: PortBase = None,
) -> None:
    """Take the pictures of the documentation anew; takes about a minute."""
    console = Console(highlight=False)
    exit_on_signals()
    ports = Ports.standard() if port_base is None else Ports.consecutive(port_base)
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        platform = stack.enter_context(LocalPlatform(directory, ports))
        platform.start()
        aggregator = flow.Aggregator.entered(platform.urls["aggregator"])
        owners = [
            flow.enter(flow.Owner(url), f"hospital-{number}", diabetes.to_csv(table)).owner
            for number, (url, table) in enumerate(
                zip(platform.owner_urls, diabetes.split(len(platform.owner_urls), ROWS), strict=True), start=1
            )
        ]
        buyer = flow.Buyer(platform.urls["buyer"])
        user, _ = buyer.sign_up("buyer")

        def order(name: str, features: tuple[str, ...] = diabetes.FEATURES, **optional: Any) -> str:
            return buyer.order(flow.order_for(user, features, name=name, **optional))

        def accept(training: str) -> None:
            for owner in owners:
                owner.wait_for_status(training, "READY")
                owner.accept(training)

        finished = order("Diabetes progression", hyper_parameters=HYPER_PARAMETERS)
        accept(finished)
        buyer.wait_finished(finished)
        waiting = order("Progression by six measurements", ("age", "bmi", "bp", "s3", "s5", "s6"), ether=2.5)
        live = order("Diabetes progression, slowly", hyper_parameters=LONG)
        accept(live)
        owner = owners[0]
        photographer = Photographer(stack.enter_context(browser()), folder)
        _wait_for_iterations(buyer, live, 60)
        photographer.take("buyer-live", buyer, f"/training/{live}", _curve)
        photographer.take("buyer-trainings", buyer, "/")
        photographer.take("aggregator-status", aggregator, "/")
        photographer.take("owner-requests", owner, "/", _again)
        photographer.take("buyer-order", buyer, "/order")
        photographer.take("buyer-finished", buyer, f"/training/{finished}", _curve)
        photographer.take("buyer-finished-dark", buyer, f"/training/{finished}", _curve, scheme="dark")
        photographer.take("buyer-payments", buyer, f"/training/{finished}", _part("section:has(#payments-title)"))
        photographer.take("buyer-phone", buyer, f"/training/{finished}", _curve, viewport=PHONE)
        photographer.take("owner-accept", owner, f"/training/{waiting}/accept")
        dataset = owner.call("GET", "/datasets")["datasets"][0]["id"]
        photographer.take("owner-dataset", owner, f"/data/{dataset}")
    for picture in sorted(folder.glob("*.png")):
        console.print(f"{picture.stat().st_size / 1000:5.0f} kB  {picture}")


if __name__ == "__main__":
    app = typer.Typer(add_completion=False)
    app.command()(screenshots)
    app(prog_name="python -m scripts.screenshots")
