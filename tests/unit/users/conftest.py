from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.users.service import Service


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    made = Service(tmp_path)
    yield made
    made.close()
