"""What the chain says about an honest training, without a chain."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

from commons.audit.findings import Report
from commons.audit.onchain import Facts, expected_payments, shuffled
from commons.chain.settlement import contribution_shares
from commons.chain.training import WHOLE, Participant, Payment, PaymentKind, Status, Terms, Training
from tests.unit.audit.parties import AGGREGATOR, BUYER, TRAINING, Story, account

ENTROPY = bytes(range(32))
ARBITER = account("arbiter")


def accepted(owners: list[str], training: UUID) -> list[str]:
    """Return the order of acceptance from which the shuffle makes that of `owners`."""
    places = [int(place) for place in shuffled([str(place) for place in range(len(owners))], ENTROPY, training)]
    order = [""] * len(owners)
    for owner, place in zip(owners, places, strict=True):
        order[place] = owner
    return order


def facts(story: Story, report: Report) -> Facts:
    """Return what the chain has when everybody was honest and the buyer has finished the training."""
    result = report.result
    assert result is not None
    addresses = [owner.address for owner in story.owners]
    rows = dict(zip(addresses, story.rows, strict=True))
    shares = (*contribution_shares(result.contributions), *[0] * len(result.validators_answered))
    answered = (*result.trainers_answered, *result.validators_answered)
    escrow = 5 * 10**18
    training = Training(
        id=TRAINING,
        status=Status.FINISHED,
        buyer=BUYER.address,
        aggregator=AGGREGATOR.address,
        escrow=escrow,
        bond=escrow // 20,
        terms=Terms(
            wanted_owners=5,
            minimum_owners=3,
            join_deadline=0,
            training_deadline=0,
            review_period=86400,
            fixed_share=WHOLE // 10,
            arbiter=ARBITER.address,
            order_hash=story.order.digest(),
            validator_share=4 * WHOLE // 10,
        ),
        owners=tuple(Participant(a, rows[a], s, w) for a, s, w in zip(addresses, shares, answered, strict=True)),
        trainer_count=story.trainers,
        evaluations=story.iterations + 1,
        ordered_block=1,
        closed_block=7,
        startable=False,
        digest=result.digest(),
        improvement=0,
        deadline=0,
        disputer=None,
        result=result,
    )
    found = Facts(
        chain_id=story.domain.chain_id,
        contract=story.domain.contract,
        training=training,
        accepted=tuple((address, rows[address]) for address in accepted(addresses, TRAINING)),
        entropy=ENTROPY,
        history=report.curve,
        reported=result,
        resolution=None,
        payments=(),
        ledgers=(),
    )
    return with_payments(found, expected_payments(found))


def with_payments(found: Facts, payments: list[Payment]) -> Facts:
    """Return the facts with these payments, of which everybody has withdrawn one wei."""
    if found.training.disputer is not None:
        payments = [*payments, Payment(found.training.disputer, PaymentKind.BOND, found.training.bond)]
    sums: dict[str, int] = {}
    for payment in payments:
        sums[payment.recipient] = sums.get(payment.recipient, 0) + payment.wei
    ledgers = tuple((address, wei, 1, wei - 1) for address, wei in sums.items())
    return replace(found, payments=tuple(payments), ledgers=ledgers)
