"""A model buyer that cheats where an order asks it to: ``python -m tests.cheats.buyer``."""

from __future__ import annotations

from collections.abc import Callable

from flask import Flask

from commons.crypto.packing import FRACTION_BITS
from commons.http.server import main
from commons.protocol.messages import MaskedModels, Message, Openings, Products, Totals, TrainingMessage, Vector
from commons.protocol.signed import Signed
from model_buyer import app
from model_buyer.answering import Answering, Desk
from model_buyer.config import Config
from model_buyer.reviewing import Reviewing
from model_buyer.storage import Model
from tests.cheats.orders import cheat_in


class CheatingAnswering(Answering):
    """Changes an answer before it is signed and kept."""

    def _once(
        self,
        desk: Desk,
        kind: str,
        round_: int,
        question: TrainingMessage,
        asked: Signed,
        answer: Callable[[], Message],
        admit: Callable[[], None] | None = None,
    ) -> Signed:
        def changed() -> Message:
            return _changed(cheat_in(desk.order), desk, question, answer())

        return super()._once(desk, kind, round_, question, asked, changed, admit)


def _changed(cheat: str, desk: Desk, question: TrainingMessage, answer: Message) -> Message:
    key = desk.key.public_key
    match cheat, question, answer:
        case "buyer=false-product", MaskedModels(), Products(ciphertexts=ciphertexts):
            # û₀² is one more than it is. No proof can be made of that: the honest products' is sent along.
            width = len(key.encode([key.trivial(0)]))
            (first,) = key.decode(ciphertexts[:width], 1)
            return answer.model_copy(update={"ciphertexts": key.encode([key.add(first, 1)]) + ciphertexts[width:]})
        case "buyer=wrong-mse", Totals(kind="settlement"), Openings(totals=totals):
            # Every model looks twice as bad: less improvement to pay for. The randomisers are those of the true totals.
            return answer.model_copy(update={"totals": tuple(f"{2 * int(total, 16):x}" for total in totals)})
        case "buyer=spoils-refresh", _, Vector(ciphertexts=ciphertexts):
            # Every weight comes back larger by one: under the masks nobody sees that.
            fresh = key.decode(ciphertexts, desk.order.length)
            return Vector(ciphertexts=key.encode(key.add(each, 1 << FRACTION_BITS) for each in fresh))
        case _:
            return answer


class CheatingReviewing(Reviewing):
    """Says nothing to a reported result, so as not to pay for it."""

    def review(self, model: Model) -> None:
        if cheat_in(model.parsed_order) != "buyer=refuses-finish":
            super().review(model)


def create_app(config: Config) -> Flask:
    return app.create_app(config, answering=CheatingAnswering, reviewing=CheatingReviewing)


if __name__ == "__main__":
    main("model_buyer", create_app, Config, default_port=9090)
