"""One platform for all cheats, whose services are those of this package, and all trainings at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from scripts.local.cheats import CHEATS, HONEST, MODULES, Cheat, Ended, Stage, Trial
from scripts.local.platform import LocalPlatform, Ports

TOGETHER = 5
"""Trainings at once: a service advances four, and some wait for the end of their review."""


@pytest.fixture(scope="module")
def endings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Future[Ended]]]:
    """Every cheat's training, by the cheat's name; begun already, and ended when asked for."""
    with LocalPlatform(tmp_path_factory.mktemp("cheats"), Ports.free(), modules=MODULES) as platform:
        platform.start()
        stage = Stage.enter(platform)

        def play(cheat: Cheat) -> Ended:
            trial = Trial.begin(stage, cheat)
            stage.accept(trial.training_id)
            return trial.watch(interval=0.5)

        with ThreadPoolExecutor(TOGETHER) as pool:
            # Those that have a review period to wait for come first.
            ordered = sorted((*CHEATS, HONEST), key=lambda cheat: cheat.review_s)
            yield {cheat.name: pool.submit(play, cheat) for cheat in ordered}
