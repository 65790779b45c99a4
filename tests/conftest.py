"""What the tests of several packages share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.conftest import Town, settle_town


@pytest.fixture(scope="session")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """Leave it as you found it: every service running, no training unfinished."""
    yield from settle_town(tmp_path_factory.mktemp("town"))
