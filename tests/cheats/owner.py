"""A data owner that cheats where an order asks it to: ``python -m tests.cheats.owner``.

Of all trainers, or validators, the one at place 0 does it.
"""

from __future__ import annotations

from flask import Flask

from commons.http.server import main
from commons.http.signatures import Question
from commons.protocol.messages import RoundQuestion, ScoreQuestion, Vector
from commons.protocol.signed import Signed
from data_owner import app
from data_owner.answering import Answering, Seat
from data_owner.config import Config
from data_owner.exchanges import score_name
from tests.cheats.orders import cheat_in


class CheatingAnswering(Answering):
    """Sends what it did not sign, or what it signed as an answer to something else."""

    def update(self, question: Question[RoundQuestion]) -> Signed:
        seat = self._seat(question.content.training)
        if not (cheat_in(seat.order) == "trainer=signs-another" and seat.place == 0):
            return super().update(question)
        # Its signature is under the model that it was sent; what it sends says that all weights are 1. Neither is kept.
        signed = Vector(ciphertexts=question.content.model)
        sent = Vector(ciphertexts=seat.key.encode([seat.key.trivial(1 << 80)] * seat.order.length))
        signature = self._chain.signer().sign(signed, question.signed).signature
        return Signed(content=sent.pack(), signature=signature)

    def score(self, question: Question[ScoreQuestion]) -> Signed:
        asked = question.content
        seat = self._seat(asked.training)
        interval = seat.order.hyper_parameters.evaluation_interval
        if (asked.kind, asked.round) == ("iteration", 2 * interval) and self._replays(seat):
            entry = self._journal.find(asked.training, *score_name("iteration", interval))
            assert entry is not None
            return Signed.unpack(entry.answer)
        return super().score(question)

    def _replays(self, seat: Seat) -> bool:
        first = seat.place is None and seat.validators[0] == self._chain.address
        return first and cheat_in(seat.order) == "validator=replays-answer"


def create_app(config: Config) -> Flask:
    return app.create_app(config, answering=CheatingAnswering)


if __name__ == "__main__":
    main("data_owner", create_app, Config, default_port=5000)
