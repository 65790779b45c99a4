from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.pages.buyer import Buyer
from tests.unit.pages.owner import Owner


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


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[Owner]:
    """An owner's service whose operator has just signed up, and is logged in."""
    made = Owner(tmp_path)
    assert made.sign_up().status_code == 303
    yield made
    made.close()
