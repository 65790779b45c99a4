"""One round: collect encrypted updates, add them up, have the buyer divide the masked sum.

What a round decides (who answered, the sum, the masks) is saved before the buyer sees any of it, so that a restart
asks the buyer the same question again.
"""

from __future__ import annotations

from dataclasses import dataclass

from gmpy2 import mpz

from commons.crypto.packing import FRACTION_BITS
from commons.journal import Entry, Journal
from commons.protocol import round as protocol
from commons.protocol import wire
from commons.protocol.messages import LocalModelQuestion, MaskedRound, RoundQuestion
from commons.protocol.schedule import MINIMUM_SUMMED
from federated_aggregator.course import Course, TooFewAnswered
from federated_aggregator.peers import Buyer, Owners

PHASE = "rounds"


@dataclass(frozen=True)
class Sum:
    """Added encrypted vectors: the places of the trainers that are in it, and d ciphertexts."""

    trainers: tuple[int, ...]
    ciphertexts: list[mpz]


class Rounds:
    """The aggregator's part in rounds.

    Parameters
    ----------
    journal : Journal
        What was decided before.
    owners, buyer
        Calls to the others.
    """

    def __init__(self, journal: Journal, owners: Owners, buyer: Buyer) -> None:
        self._journal = journal
        self._owners = owners
        self._buyer = buyer

    def collect(self, course: Course, round_: int, model: bytes) -> Sum:
        """Ask the trainers for their updates of an encrypted model and add them up.

        Raises
        ------
        TooFewAnswered
            Fewer than two answered.
        """
        with course.meter.phase(PHASE) as count:
            entry = self._journal.find(course.id, "sum", round_)
            if entry is None:
                question = RoundQuestion(training=course.id, round=round_, model=model)
                call = self._owners.update(question, course.vector, count)
                updates = self._owners.ask(course.trainer_urls, call, course.lost)
                _require_enough(len(updates), f"round {round_}")
                total = protocol.aggregate(list(updates.values()), course.key)
                entry = self._journal.keep(course.id, "sum", round_, bytes(sorted(updates)), course.key.encode(total))
            return Sum(tuple(entry.question), course.vector(entry.answer))

    def refresh(self, course: Course, round_: int, total: Sum) -> bytes:
        """Have a round's sum divided by the buyer, under masks: the encrypted model of the next round."""
        divisor = sum(course.weights[place] for place in total.trainers) << FRACTION_BITS
        with course.meter.phase(PHASE) as count:
            entry = self._journal.find(course.id, "mask", round_) or self._mask(course, round_, total)
            masks = wire.decode_masks(entry.answer, course.order.length)
            divided = course.vector(self._buyer.refresh(course.buyer_url, course.id, entry.question, count))
            return course.key.encode(protocol.unmask(divided, masks, divisor, course.key))

    def local_models(self, course: Course) -> tuple[tuple[int, ...], list[list[mpz]]]:
        """Ask the trainers for the models that their data alone give: who answered, and d ciphertexts each.

        Raises
        ------
        TooFewAnswered
            Fewer than two answered.
        """
        with course.meter.phase("contributions") as count:
            entry = self._journal.find(course.id, "locals", 0)
            if entry is None:
                call = self._owners.local_model(LocalModelQuestion(training=course.id), course.vector, count)
                models = self._owners.ask(course.trainer_urls, call, course.lost)
                _require_enough(len(models), "the contributions")
                data = course.key.encode(wire.join(list(models.values())))
                entry = self._journal.keep(course.id, "locals", 0, bytes(sorted(models)), data)
            places = tuple(entry.question)
            flat = course.key.decode(entry.answer, len(places) * course.order.length)
            return places, wire.split(flat, len(places))

    def _mask(self, course: Course, round_: int, total: Sum) -> Entry:
        masked = protocol.mask(total.ciphertexts, course.key, course.randomisers)
        question = MaskedRound(
            training=course.id, round=round_, trainers=total.trainers, packed=course.key.encode(masked.packed)
        )
        return self._journal.keep(course.id, "mask", round_, question.pack(), wire.encode_masks(masked.masks))


def _require_enough(answered: int, what: str) -> None:
    if answered < MINIMUM_SUMMED:
        raise TooFewAnswered(f"{answered} trainers answered {what}: at least {MINIMUM_SUMMED} are needed")
