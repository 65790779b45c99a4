from __future__ import annotations

from commons.chain.marketplace import PaymentKind, Status
from commons.chain.settlement import settle

from .world import ESCROW, World, address_of


def test_a_training_runs_from_the_order_to_the_last_withdrawal(world: World) -> None:
    training_id = world.order()
    assert world.status(training_id) is Status.OPEN
    for owner in world.owners[:5]:
        owner.accept_training(training_id, 442)
    world.aggregator.close_joining(training_id)
    assert world.buyer.training(training_id).startable
    world.aggregator.start_training(training_id)
    training = world.buyer.training(training_id)
    assert (len(training.trainers), len(training.validators)) == (4, 1)
    for iteration in (0, 5, 10):
        world.aggregator.save_mse(training_id, iteration, 1000 - iteration)
    result = world.result(training_id)
    world.aggregator.report_result(training_id, result)
    training = world.buyer.training(training_id)
    assert training.result == result
    assert training.digest == result.digest()
    world.buyer.finish_model_training(training_id, result.digest())

    split = settle(ESCROW, training.terms.fixed_share, result)
    expected = {
        (address_of(world.aggregator), PaymentKind.ORCHESTRATION, split.aggregator),
        (address_of(world.buyer), PaymentKind.BUYER_RETURN, split.buyer),
        *((a, PaymentKind.CONTRIBUTION, w) for a, w in zip(training.trainers, split.trainers, strict=True)),
        *((a, PaymentKind.VALIDATION, w) for a, w in zip(training.validators, split.validators, strict=True)),
    }
    paid = {(p.recipient, p.kind, p.wei) for p in world.buyer.payments(training_id)}
    assert paid == expected
    for recipient, _, wei in expected:
        assert world.buyer.credit(recipient) == wei
    for party in [*world.owners[:5], world.aggregator, world.buyer]:
        party.withdraw()
    assert world.buyer.balance(world.address) == 0
