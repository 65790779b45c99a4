"""What the transcript says is compared with the chain: who said otherwise there is named."""

from __future__ import annotations

import io
import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from commons.audit import Report
from commons.audit.onchain import Facts, audit_with_chain, compare, facts, shuffled
from commons.chain.marketplace import Marketplace
from commons.chain.training import Outcome, Payment, PaymentKind, Status
from commons.protocol.signed import Domain
from commons.protocol.transcript import Transcript, read
from tests.contract.conftest import deployed, rpc_url, world  # noqa: F401
from tests.contract.world import World
from tests.unit.audit.chain import with_payments
from tests.unit.audit.parties import TRAINING, Story, TrainingRequest, audited


@pytest.fixture(scope="module")
def transcript(file: bytes) -> Transcript:
    return read(io.BytesIO(file))


def first(transcript: Transcript, report: Report, found: Facts) -> tuple[str, str, str]:
    """Return the check that fails first, who is named, and what it claimed."""
    compared = compare(transcript, report, found, TrainingRequest)
    assert compared.first is not None and not compared.passed
    check = next(check for check in compared.checks if check.deviation is not None)
    return check.name, compared.first.party.role, compared.first.claimed


def test_an_honest_training_is_as_the_chain_has_it(transcript: Transcript, report: Report, honest_facts: Facts) -> None:
    compared = compare(transcript, report, honest_facts, TrainingRequest)
    assert compared.passed, compared.first
    assert {check.name for check in compared.checks} > {check.name for check in report.checks}


@pytest.mark.parametrize(
    ("field", "change", "claimed"),
    [
        ("iterations", lambda value: value - 1, "iterations = 2"),
        ("initial_mse", lambda value: value + 1, "initial_mse = "),
        ("final_mse", lambda value: value - 1, "final_mse = "),
        ("partial_mses", lambda values: values[::-1], "partial_mses = "),
        ("contributions", lambda values: (values[1], values[0], *values[2:]), "contributions = "),
        ("trainers_answered", lambda values: (False, *values[1:]), "trainers_answered = [False, True, True]"),
        ("validators_answered", lambda values: (False, *values[1:]), "validators_answered = [False, True]"),
        ("transcript_root", lambda root: bytes(32), "transcript_root = 0000"),
        ("model_hash", lambda root: bytes(32), "model_hash = 0000"),
    ],
)
def test_every_field_of_the_reported_result_is_recomputed(
    transcript: Transcript, report: Report, honest_facts: Facts, field: str, change: Any, claimed: str
) -> None:
    assert honest_facts.reported is not None
    wrong = replace(honest_facts.reported, **{field: change(getattr(honest_facts.reported, field))})
    name, role, said = first(transcript, report, replace(honest_facts, reported=wrong))
    assert (name, role) == ("reported result", "aggregator") and said.startswith(claimed)


@pytest.mark.parametrize("round_", [0, 1, 3])
def test_an_error_that_was_saved_otherwise_is_the_aggregators(
    transcript: Transcript, report: Report, honest_facts: Facts, round_: int
) -> None:
    history = tuple((r, mse + 1 if r == round_ else mse) for r, mse in honest_facts.history)
    found = first(transcript, report, replace(honest_facts, history=history))
    assert found[:2] == ("errors on chain", "aggregator") and found[2].startswith(f"MSE after {round_} rounds")
    missing = tuple(pair for pair in honest_facts.history if pair[0] != round_)
    assert first(transcript, report, replace(honest_facts, history=missing))[:2] == ("errors on chain", "aggregator")


def test_a_training_that_is_not_on_chain_is_found(transcript: Transcript, report: Report, honest_facts: Facts) -> None:
    nothing = replace(honest_facts.training, status=Status.NONE)
    found = first(transcript, report, replace(honest_facts, training=nothing))
    assert found == ("training on chain", "aggregator", "training is on chain = True")


def test_an_order_that_is_not_on_chain_is_the_buyers(
    transcript: Transcript, report: Report, honest_facts: Facts
) -> None:
    terms = replace(honest_facts.training.terms, order_hash=bytes(32))
    found = first(transcript, report, replace(honest_facts, training=replace(honest_facts.training, terms=terms)))
    assert found[:2] == ("training on chain", "buyer")


def test_roles_are_drawn_again_from_the_blocks_hash(
    transcript: Transcript, report: Report, honest_facts: Facts
) -> None:
    assert first(transcript, report, replace(honest_facts, entropy=bytes(32)))[0] == "owners and their roles"
    swapped = (*honest_facts.accepted[1:], honest_facts.accepted[0])
    assert first(transcript, report, replace(honest_facts, accepted=swapped))[0] == "owners and their roles"


def test_rows_are_those_declared_on_chain(transcript: Transcript, report: Report, honest_facts: Facts) -> None:
    more = tuple((address, rows + 1) for address, rows in honest_facts.accepted)
    found = first(transcript, report, replace(honest_facts, accepted=more))
    assert found[:2] == ("owners and their roles", "aggregator") and found[2].startswith("rows = ")


def test_payments_are_those_of_the_result(transcript: Transcript, report: Report, honest_facts: Facts) -> None:
    one, *others = honest_facts.payments
    wrong = with_payments(honest_facts, [replace(one, wei=one.wei + 1), *others])
    assert first(transcript, report, wrong)[:2] == ("payments and credits", "contract")
    assert first(transcript, report, with_payments(honest_facts, others))[:2] == ("payments and credits", "contract")
    address, credited, withdrawn, credit = honest_facts.ledgers[0]
    ledgers = ((address, credited, withdrawn, credit + 1), *honest_facts.ledgers[1:])
    found = first(transcript, report, replace(honest_facts, ledgers=ledgers))
    assert found[2] == f"credit of {address} = {credit + 1}"


def test_a_refund_pays_the_buyer_everything_and_the_bond_back(
    transcript: Transcript, report: Report, honest_facts: Facts
) -> None:
    training = replace(honest_facts.training, disputer=honest_facts.training.buyer)
    refunded = replace(honest_facts, training=training, resolution=Outcome.REFUND)
    payment = Payment(training.buyer, PaymentKind.BUYER_RETURN, training.escrow)
    compared = compare(transcript, report, with_payments(refunded, [payment]), TrainingRequest)
    assert compared.first is None
    assert [check.name for check in compared.checks if not check.passed] == ["decision on the dispute"]
    assert compare(transcript, report, refunded, TrainingRequest).first is not None, "paid as if there was no refund"


def test_an_arbiter_that_corrects_to_something_else_is_named(
    transcript: Transcript, report: Report, honest_facts: Facts
) -> None:
    training = honest_facts.training
    assert training.result is not None
    other = replace(training, result=replace(training.result, final_mse=1), disputer=training.buyer)
    found = replace(honest_facts, training=other, resolution=Outcome.CORRECTED)
    assert first(transcript, report, found)[:2] == ("decision on the dispute", "arbiter")


def test_a_training_that_is_not_settled_yet_has_its_payments_unchecked(
    transcript: Transcript, report: Report, honest_facts: Facts
) -> None:
    open_ = replace(honest_facts, training=replace(honest_facts.training, status=Status.DISPUTED), payments=())
    compared = compare(transcript, report, open_, TrainingRequest)
    assert compared.first is None
    unchecked = {check.name: check.not_checked for check in compared.checks if not check.passed}
    assert unchecked == {"payments and credits": "the training is DISPUTED: nothing was paid yet"}


def test_without_a_chain_the_report_says_what_was_not_checked(transcript: Transcript, report: Report) -> None:
    compared = audit_with_chain(transcript, report, "http://127.0.0.1:9", TrainingRequest)
    assert compared.first is None and not compared.passed
    unchecked = [check for check in compared.checks if not check.passed]
    assert len(unchecked) == 5
    assert all("the chain does not answer" in (check.not_checked or "") for check in unchecked)
    assert compared.result == report.result


@pytest.fixture
def played(world: World) -> Iterator[tuple[World, Story, bytes, Report]]:  # noqa: F811
    """An honest training on a real chain, whose block drew the roles."""
    buyer = world.buyer
    domain = Domain(buyer.chain_id, world.address)
    order = Story(domain=domain).order
    terms = world.terms(order_hash=order.digest(), validator_share=4 * 10**17)
    assert world.aggregator.account is not None
    buyer.new_model(TRAINING, "LINEAR_REGRESSION", world.aggregator.account.address, terms, 5 * 10**18)
    rows = dict(zip(range(5), Story().rows, strict=True))
    world.owners[5].accept_training(TRAINING, 9)
    for number in (3, 0, 4, 1):
        world.owners[number].accept_training(TRAINING, rows[number])
    world.owners[5].withdraw_acceptance(TRAINING)
    world.owners[2].accept_training(TRAINING, rows[2])
    world.aggregator.close_joining(TRAINING)
    world.aggregator.start_training(TRAINING)
    training = buyer.training(TRAINING)
    numbers = {owner.account.address: number for number, owner in enumerate(world.owners) if owner.account}
    story = Story(domain=domain, places=tuple(numbers[owner.address] for owner in training.owners))
    file = story.tell()
    report = audited(file)
    assert report.passed and report.result is not None, report.first
    for round_, mse in report.curve:
        world.aggregator.save_mse(TRAINING, round_, mse)
    world.aggregator.report_result(TRAINING, report.result)
    yield world, story, file, report


def test_an_honest_training_passes_on_a_real_chain(played: tuple[World, Story, bytes, Report]) -> None:
    world, _, file, report = played  # noqa: F811
    assert report.result is not None
    world.buyer.finish_model_training(TRAINING, report.result.digest())
    world.aggregator.withdraw()
    compared = audit_with_chain(read(io.BytesIO(file)), report, world.rpc_url, TrainingRequest)
    assert compared.passed, compared.first
    found = facts(Marketplace(world.rpc_url, world.address), TRAINING)
    assert [number for number, (address, _) in enumerate(found.accepted) if address in found.training.trainers]
    drawn = shuffled([address for address, _ in found.accepted], found.entropy, TRAINING)
    assert tuple(drawn) == (*found.training.trainers, *found.training.validators)


def test_a_correction_on_a_real_chain_leaves_the_reported_result_the_aggregators(
    played: tuple[World, Story, bytes, Report],
) -> None:
    world, _, file, report = played  # noqa: F811
    assert report.result is not None
    wrong = replace(report.result, final_mse=report.result.final_mse + 5)
    world.buyer.dispute_result(TRAINING, bytes(32), world.buyer.training(TRAINING).bond)
    world.arbiter.resolve(TRAINING, Outcome.CORRECTED, wrong)
    compared = audit_with_chain(read(io.BytesIO(file)), report, world.rpc_url, TrainingRequest)
    assert compared.first is not None and compared.first.party.role == "arbiter"
    assert next(check for check in compared.checks if check.name == "reported result").passed
    assert next(check for check in compared.checks if check.name == "payments and credits").passed


def test_a_transcript_of_another_chain_or_contract_says_so(world: World) -> None:  # noqa: F811
    def compared(chain_id: int, contract: str) -> Report:
        file = Story(domain=Domain(chain_id, contract)).tell()
        return audit_with_chain(read(io.BytesIO(file)), audited(file), world.rpc_url, TrainingRequest)

    def reasons(report: Report) -> set[str | None]:
        return {check.not_checked for check in report.checks if not check.passed}

    here, nowhere = world.buyer.chain_id, "0x" + "1" * 40
    assert reasons(compared(1, world.address)) == {f"the transcript is of chain 1, and the node is on chain {here}"}
    (reason,) = reasons(compared(here, nowhere))
    assert reason is not None and "there is no marketplace contract" in reason
    unknown = compared(here, world.address)
    assert unknown.first is not None and unknown.first.claimed == "training is on chain = True"


def test_the_draw_depends_on_block_and_training() -> None:
    owners = [str(number) for number in range(20)]
    draws = [
        shuffled(owners, entropy, id_) for entropy in (bytes(32), b"\1" * 32) for id_ in (TRAINING, uuid.UUID(int=1))
    ]
    assert len({tuple(draw) for draw in draws}) == 4
    assert all(sorted(draw) == sorted(owners) for draw in draws)
