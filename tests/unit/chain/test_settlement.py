from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commons.chain.settlement import contribution_shares, improvement, prospects, settle, trainer_count
from commons.chain.training import WHOLE, Result

ETHER = 10**18


def result(**changes: Any) -> Result:
    fields: dict[str, Any] = {
        "iterations": 100,
        "initial_mse": 1000,
        "final_mse": 500,
        "partial_mses": (600, 700),
        "contributions": (3, 1),
        "trainers_answered": (True, True),
        "validators_answered": (True,),
        "transcript_root": b"\x01" * 32,
        "model_hash": b"\x02" * 32,
    }
    return Result(**{**fields, **changes})


def test_the_worked_example_of_the_design() -> None:
    split = settle(5 * ETHER, 0, result())
    assert split.aggregator == ETHER // 2
    assert split.validators == (ETHER,)
    assert split.trainers == (21 * ETHER // 16, 7 * ETHER // 16)
    assert sum(split.trainers) == split.buyer == 7 * ETHER // 4


def test_the_fixed_share_is_paid_whatever_the_improvement() -> None:
    split = settle(5 * ETHER, WHOLE // 10, result(final_mse=2000))
    assert split.trainers == (175 * ETHER // 1000,) * 2
    assert split.buyer == 5 * ETHER - split.aggregator - sum(split.validators) - sum(split.trainers)


def test_parts_of_silent_parties_return_to_the_buyer() -> None:
    everybody = settle(5 * ETHER, WHOLE // 10, result(validators_answered=(True, True)))
    some = settle(5 * ETHER, WHOLE // 10, result(trainers_answered=(False, True), validators_answered=(True, False)))
    assert some.trainers == (0, everybody.trainers[1])
    assert some.validators == (everybody.validators[0], 0)
    assert some.aggregator == everybody.aggregator
    assert some.buyer == everybody.buyer + everybody.trainers[0] + everybody.validators[1]


def test_dust_returns_to_the_buyer() -> None:
    split = settle(99, WHOLE, result(contributions=(1, 1), validators_answered=(True, True)))
    assert (split.aggregator, split.validators, split.trainers, split.buyer) == (9, (9, 9), (34, 34), 4)


@pytest.mark.parametrize(
    ("initial", "final", "expected"),
    [
        (1000, 500, WHOLE // 2),
        (3, 1, 2 * WHOLE // 3),
        (500, 500, 0),
        (500, 501, 0),
        (7, 0, WHOLE),
        (0, 0, 0),
        (0, 9, 0),
    ],
)
def test_improvement_is_relative_and_never_negative(initial: int, final: int, expected: int) -> None:
    assert improvement(initial, final) == expected


@pytest.mark.parametrize(
    ("contributions", "expected"),
    [
        ((3, 1), (3 * WHOLE // 4, WHOLE // 4)),
        ((1, 1, 1), (WHOLE // 3,) * 3),
        ((0, 0), (WHOLE // 2,) * 2),
        ((0, 5), (0, WHOLE)),
    ],
)
def test_shares_follow_contributions(contributions: tuple[int, ...], expected: tuple[int, ...]) -> None:
    assert contribution_shares(contributions) == expected


@pytest.mark.parametrize(
    ("owners", "trainers"), [(3, 2), (4, 3), (5, 4), (6, 4), (7, 5), (10, 7), (71, 50), (256, 179)]
)
def test_seven_of_ten_owners_train(owners: int, trainers: int) -> None:
    assert trainer_count(owners, 3 * WHOLE // 10) == trainers


@pytest.mark.parametrize(("share", "trainers"), [(0, 9), (WHOLE // 2, 5), (WHOLE, 2)])
def test_there_are_always_two_trainers_and_a_validator(share: int, trainers: int) -> None:
    assert trainer_count(10, share) == trainers


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    escrow=st.integers(1, 2**128 - 1),
    fixed_share=st.integers(0, WHOLE),
    initial=st.integers(0, 2**80),
    final=st.integers(0, 2**80),
    trainers=st.lists(st.tuples(st.integers(0, 2**100), st.booleans()), min_size=2, max_size=20),
    validators=st.lists(st.booleans(), min_size=1, max_size=9),
)
def test_a_split_is_the_whole_escrow_and_nobody_owes(
    escrow: int,
    fixed_share: int,
    initial: int,
    final: int,
    trainers: list[tuple[int, bool]],
    validators: list[bool],
) -> None:
    split = settle(
        escrow,
        fixed_share,
        result(
            initial_mse=initial,
            final_mse=final,
            contributions=tuple(contribution for contribution, _ in trainers),
            trainers_answered=tuple(answered for _, answered in trainers),
            validators_answered=tuple(validators),
        ),
    )
    parts = (split.aggregator, *split.trainers, *split.validators, split.buyer)
    assert sum(parts) == escrow
    assert min(parts) >= 0
    assert sum(split.trainers) <= escrow * 70 // 100


def test_the_digest_is_the_hash_of_the_abi_encoding() -> None:
    """The number comes from Solidity: ``keccak256(abi.encode(result))`` of this very result."""
    assert result().digest().hex() == "db6efe34d73aa7a27d8f4ff635a4da3be64e4097f34c5563f1628aff6fbb353b"


@pytest.mark.parametrize("field", ["iterations", "initial_mse", "final_mse", "contributions", "model_hash"])
def test_the_digest_binds_every_field(field: str) -> None:
    changed = {"contributions": (1, 3), "model_hash": bytes(32)}.get(field, 12)
    assert result(**{field: changed}).digest() != result().digest()


@given(
    escrow=st.integers(1, 10**24),
    fixed_share=st.integers(0, WHOLE),
    validator_share=st.integers(WHOLE // 10, 9 * WHOLE // 10),
    bounds=st.tuples(st.integers(3, 12), st.integers(0, 12)),
    data=st.data(),
)
def test_who_answers_is_paid_within_its_prospects(
    escrow: int, fixed_share: int, validator_share: int, bounds: tuple[int, int], data: st.DataObject
) -> None:
    fewest, most = bounds[0], sum(bounds)
    promised = prospects(escrow, fixed_share, validator_share, (fewest, most))
    owners = data.draw(st.integers(fewest, most))
    trainers = trainer_count(owners, validator_share)
    contributions = data.draw(st.tuples(*[st.integers(0, 10)] * trainers))
    split = settle(
        escrow,
        fixed_share,
        result(
            final_mse=data.draw(st.integers(0, 1000)),
            contributions=contributions,
            trainers_answered=(True,) * trainers,
            validators_answered=(True,) * (owners - trainers),
        ),
    )
    assert all(promised.trainer[0] <= wei <= promised.trainer[1] for wei in split.trainers)
    assert all(promised.validator[0] <= wei <= promised.validator[1] for wei in split.validators)


def test_prospects_are_reached() -> None:
    assert prospects(5 * ETHER, WHOLE // 10, 3 * WHOLE // 10, (3, 10)).validator == (ETHER // 3, ETHER)
    alone = settle(5 * ETHER, WHOLE // 10, result(final_mse=0, contributions=(1, 0)))
    nothing = settle(5 * ETHER, WHOLE // 10, result(final_mse=1000))
    promised = prospects(5 * ETHER, WHOLE // 10, 3 * WHOLE // 10, (3, 3)).trainer
    assert promised == (nothing.trainers[0], alone.trainers[0])
