from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from commons.crypto.paillier import PrivateKey, UniformRandomisers
from tests.unit.data_owner.parties import Owner, Parties


@pytest.fixture(scope="session")
def private_key() -> PrivateKey:
    return PrivateKey.generate()


@pytest.fixture(scope="session")
def randomisers(private_key: PrivateKey) -> Iterator[UniformRandomisers]:
    made = UniformRandomisers(private_key.public_key)
    yield made
    made.close()


@pytest.fixture
def parties(private_key: PrivateKey, randomisers: UniformRandomisers) -> Parties:
    return Parties(private_key, randomisers)


@pytest.fixture
def owners(parties: Parties, tmp_path: Path) -> Iterator[list[Owner]]:
    """The services of two trainers and two validators."""
    made = [parties.owner(number, tmp_path) for number in range(4)]
    yield made
    for owner in made:
        owner.database.close()
