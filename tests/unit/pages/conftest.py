from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.pages.buyer import Buyer


@pytest.fixture
def newcomer(tmp_path: Path) -> Iterator[Buyer]:
    """A buyer's service without users."""
    made = Buyer(tmp_path)
    yield made
    made.close()


@pytest.fixture
def buyer(newcomer: Buyer) -> Buyer:
    """One whose operator has just signed up, and is logged in."""
    assert newcomer.sign_up().status_code == 303
    return newcomer
