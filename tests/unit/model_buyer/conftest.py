from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from commons.crypto.paillier import PrivateKey, ShortRandomisers, UniformRandomisers
from tests.unit.model_buyer.scene import Scene, Secrets


@pytest.fixture(scope="session")
def own_secrets() -> Iterator[Secrets]:
    key = PrivateKey.generate(1024)
    uniform = UniformRandomisers(key.public_key)
    yield Secrets(key, ShortRandomisers(key.public_key), uniform)
    uniform.close()


@pytest.fixture
def scene(tmp_path: Path, own_secrets: Secrets) -> Iterator[Scene]:
    made = Scene(tmp_path, own_secrets)
    yield made
    made.close()
