"""The library's numbers against its mirror in Python, and against numbers worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from web3.contract import Contract

from commons.chain.settlement import settle, trainer_count
from commons.chain.training import WHOLE, Result

from .world import World

mses = st.one_of(st.integers(0, 10**6), st.integers(0, 2**76), st.integers(0, 2**256 - 1))
shares = st.one_of(st.sampled_from([0, WHOLE // 10, WHOLE // 3, WHOLE]), st.integers(0, WHOLE))
thorough = settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope="session")
def library(deployed: World, compiled: dict[str, Any]) -> Contract:
    code = compiled["Auditor.sol"]["Auditor"]
    return deployed.web3.eth.contract(address=deployed.deploy(code), abi=code["abi"])


@thorough
@given(owners=st.integers(3, 256), share=shares)
def test_solidity_and_python_count_the_same_trainers(library: Contract, owners: int, share: int) -> None:
    count = library.functions.trainerCount(owners, share).call()
    assert count == trainer_count(owners, share)
    assert 2 <= count < owners


@thorough
@given(
    escrow=st.one_of(st.integers(1, 1000), st.integers(1, 2**128 - 1)),
    fixed_share=shares,
    initial=mses,
    final=mses,
    contributions=st.lists(st.one_of(st.integers(0, 3), st.integers(0, 2**240)), min_size=2, max_size=12),
    validators=st.integers(1, 5),
)
def test_solidity_and_python_split_to_the_same_wei(
    library: Contract,
    escrow: int,
    fixed_share: int,
    initial: int,
    final: int,
    contributions: list[int],
    validators: int,
) -> None:
    split = settle(
        escrow,
        fixed_share,
        Result(
            iterations=1,
            initial_mse=initial,
            final_mse=final,
            partial_mses=(0,) * len(contributions),
            contributions=tuple(contributions),
            trainers_answered=(True,) * len(contributions),
            validators_answered=(True,) * validators,
            transcript_root=bytes(32),
            model_hash=bytes(32),
        ),
    )
    on_chain = library.functions.settle(escrow, fixed_share, initial, final, contributions, validators).call()
    assert list(on_chain) == [split.aggregator, split.validators[0], list(split.trainers)]
    assert min(split.buyer, *split.trainers) >= 0
    assert split.aggregator + sum(split.trainers) + sum(split.validators) + split.buyer == escrow
