from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from commons.crypto.paillier import PrivateKey, UniformRandomisers
from tests.unit.federated_aggregator.parties import World


@pytest.fixture(scope="session")
def private_key() -> PrivateKey:
    return PrivateKey.generate(1024)


@pytest.fixture(scope="session")
def uniform(private_key: PrivateKey) -> Iterator[UniformRandomisers]:
    randomisers = UniformRandomisers(private_key.public_key)
    yield randomisers
    randomisers.close()


@pytest.fixture
def make_world(tmp_path: Path, private_key: PrivateKey, uniform: UniformRandomisers) -> Iterator[Callable[..., World]]:
    made: list[World] = []

    def make(**hyper: object) -> World:
        made.append(World(f"sqlite:///{tmp_path / f'service{len(made)}.db'}", private_key, uniform, **hyper))
        return made[-1]

    yield make
    for world in made:
        world.close()


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    return make_world()
