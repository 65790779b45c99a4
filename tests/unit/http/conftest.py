from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from commons.database import Database
from commons.http.nonces import LATEST_REQUEST


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """A service's database, as far as requests go."""
    made = Database(f"sqlite:///{tmp_path / 'service.db'}")
    LATEST_REQUEST.create(made.engine)
    yield made
    made.close()
