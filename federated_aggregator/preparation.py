"""What a training will need and can be computed while it waits for data owners: the randomness of its masks."""

from __future__ import annotations

import uuid

from commons.chain.settlement import trainer_count
from commons.crypto.paillier import PublicKey, UniformRandomisers
from commons.learning.contributions import UNIT
from commons.protocol.messages import Order
from commons.protocol.outcome import packed_count, settlement_count


class Preparations:
    """The randomisers of every training that is waited for or runs; they live in memory alone."""

    def __init__(self) -> None:
        self._stocks: dict[uuid.UUID, UniformRandomisers] = {}

    def randomisers(self, training_id: uuid.UUID, order: Order) -> UniformRandomisers:
        """Return a training's randomisers, and begin to compute them at the first call."""
        if training_id not in self._stocks:
            key = PublicKey.from_modulus(int(order.modulus, 16), order.hyper_parameters.key_bits)
            self._stocks[training_id] = UniformRandomisers(key, wanted(order, key))
        return self._stocks[training_id]

    def drop(self, training_id: uuid.UUID) -> None:
        """Forget what was prepared for a training, if anything was."""
        stock = self._stocks.pop(training_id, None)
        if stock is not None:
            stock.close()


def wanted(order: Order, key: PublicKey) -> int:
    """Return how many ciphertexts are masked in a training that runs as long as its order allows, or a few more.

    Parameters
    ----------
    order : Order
    key : PublicKey
        The training's, of the order's length.
    """
    hyper, participants = order.hyper_parameters, order.participants
    trainers = trainer_count(participants.wanted, round(participants.validator_share * UNIT))
    rounds = (hyper.iterations - 1) * packed_count(order.length, key)
    models = (hyper.iterations - 1) // hyper.evaluation_interval + settlement_count(trainers)
    moments = 2 * order.length - 1 if order.standardises else 0
    return moments + rounds + models * order.length
