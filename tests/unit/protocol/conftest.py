from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

from commons.crypto.paillier import PrivateKey, PublicKey, ShortRandomisers, UniformRandomisers

settings.register_profile("shared-machine", deadline=None)
settings.load_profile("shared-machine")


@pytest.fixture(scope="session")
def private_key() -> PrivateKey:
    return PrivateKey.generate(1024)


@pytest.fixture(scope="session")
def public_key(private_key: PrivateKey) -> PublicKey:
    return private_key.public_key


@pytest.fixture(scope="session")
def short(public_key: PublicKey) -> ShortRandomisers:
    return ShortRandomisers(public_key)


@pytest.fixture(scope="session")
def uniform(public_key: PublicKey) -> Iterator[UniformRandomisers]:
    randomisers = UniformRandomisers(public_key)
    yield randomisers
    randomisers.close()
