"""An aggregator that cheats where an order asks it to: ``python -m tests.cheats.aggregator``."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from flask import Flask
from gmpy2 import mpz

from commons.chain.marketplace import Marketplace, Result
from commons.errors import NotAuthorised
from commons.http.peer import Answered, Counter, Patience, Peers
from commons.http.server import main
from commons.protocol import transcript, wire
from commons.protocol.messages import ScoreQuestion, Totals, TrainingRequest, Vector
from commons.protocol.signed import Signed
from commons.protocol.transcript import Cosigned, Header, Scores
from federated_aggregator import app
from federated_aggregator.answer_times import AnswerTimes
from federated_aggregator.config import Config
from federated_aggregator.course import Course, Party
from federated_aggregator.evaluations import Evaluations
from federated_aggregator.orchestration import Orchestration
from federated_aggregator.peers import Asking, Decoding, Owners, Said
from federated_aggregator.transcripts import Transcripts
from tests.cheats.orders import cheat_in


class Dropping:
    """Asks a trainer for its update, and is one that :meth:`CheatingOwners.ask` drops the first trainer's answer of."""

    def __init__(self, call: Asking[Vector]) -> None:
        self._call = call

    def __call__(self, party: Party, patience: Patience) -> Answered[Vector]:
        return self._call(party, patience)


class CheatingOwners(Owners):
    """Takes a trainer's updates and says that it did not answer, or shows validators different questions."""

    def __init__(self, peers: Peers, timeout_s: float, times: AnswerTimes) -> None:
        super().__init__(peers, timeout_s, times)
        self._cheats: dict[uuid.UUID, str] = {}

    def offer(self, parties: Sequence[Party], request: Signed, training: uuid.UUID) -> list[str]:
        self._cheats[training] = cheat_in(request.read(TrainingRequest).order)
        return super().offer(parties, request, training)

    def update(self, training: uuid.UUID, question: Signed, vector: Decoding, count: Counter) -> Asking[Vector]:
        call = super().update(training, question, vector, count)
        return Dropping(call) if self._cheats[training] == "aggregator=drops-update" else call

    def ask(self, course: Course, parties: Mapping[int, Party], call: Asking[Said]) -> dict[int, Answered[Said]]:
        answers = super().ask(course, parties, call)
        if isinstance(call, Dropping):
            answers.pop(0, None)
        return answers

    def score(self, training: uuid.UUID, question: Signed, vector: Decoding, count: Counter) -> Asking[Vector]:
        asked = question.read(ScoreQuestion)
        honest = super().score(training, question, vector, count)
        if self._cheats[training] != "aggregator=different-questions" or not asked.masks:
            return honest
        # The same masked models, under masks that are one larger: other models, as whoever is asked this sees it.
        masks = wire.decode_masks(asked.masks, len(asked.masks) // wire.MASK_BYTES)
        other = asked.model_copy(update={"masks": wire.encode_masks([mask + 1 for mask in masks])})
        misleading = super().score(training, self._peers.sign(other), vector, count)
        misled: dict[str, str] = {}

        def call(party: Party, patience: Patience) -> Answered[Vector]:
            first = misled.setdefault("first", party.address)
            return (misleading if party.address == first else honest)(party, patience)

        return call


class CheatingEvaluations(Evaluations):
    """Has sums opened that nobody signed, or delivers what unmasks no model."""

    def _cosigned(self, course: Course, scores: Scores, question: ScoreQuestion, count: Counter) -> Cosigned:
        cosigned = super()._cosigned(course, scores, question, count)
        if cheat_in(course.order) != "aggregator=makes-up-total" or question.kind != "settlement":
            return cosigned
        # No error at all, for any model: the most that there is to pay.
        asked = cosigned.totals.read(Totals)
        vectors = len(asked.ciphertexts) // len(course.key.encode([mpz(1)]))
        made_up = asked.model_copy(update={"ciphertexts": course.key.encode([course.key.trivial(0)] * vectors)})
        return cosigned.model_copy(update={"totals": self._peers.sign(made_up)})

    def delivery(
        self, training_id: uuid.UUID, round_: int, place: int, length: int, divisor: int
    ) -> tuple[list[int], bytes]:
        quotients, salt = super().delivery(training_id, round_, place, length, divisor)
        header = self._transcripts.find(training_id, "header", 0, Header)
        assert header is not None
        if cheat_in(header.request.read(TrainingRequest).order) == "aggregator=another-model":
            quotients = [quotient + 1 for quotient in quotients]
        return quotients, salt


class CheatingOrchestration(Orchestration):
    """Reports another result than the training had, or keeps the model."""

    def _report(self, market: Marketplace, training_id: uuid.UUID, result: Result) -> None:
        cheat = cheat_in(self._storage.training(training_id).parsed_request.order)
        if cheat in ("aggregator=reports-mse", "aggregator=withholds-transcript"):
            result = replace(result, final_mse=result.final_mse // 2)
        elif cheat == "aggregator=swaps-contributions":
            most = result.contributions.index(max(result.contributions))
            least = result.contributions.index(min(result.contributions))
            swapped = list(result.contributions)
            swapped[most], swapped[least] = swapped[least], swapped[most]
            result = replace(result, contributions=tuple(swapped))
        super()._report(market, training_id, result)

    def _deliver(self, training_id: uuid.UUID) -> None:
        cheat = cheat_in(self._storage.training(training_id).parsed_request.order)
        if cheat != "aggregator=never-delivers":
            super()._deliver(training_id)


class CheatingTranscripts(Transcripts):
    """Keeps a transcript to itself."""

    def stream(self, training_id: uuid.UUID) -> Iterator[bytes]:
        header = self.find(training_id, "header", 0, transcript.Header)
        assert header is not None
        if cheat_in(header.request.read(TrainingRequest).order) == "aggregator=withholds-transcript":
            raise NotAuthorised("this aggregator shows its transcript to nobody")
        return super().stream(training_id)


def create_app(config: Config) -> Flask:
    return app.create_app(
        config,
        owners=CheatingOwners,
        evaluations=CheatingEvaluations,
        orchestration=CheatingOrchestration,
        transcripts=CheatingTranscripts,
    )


if __name__ == "__main__":
    main("federated_aggregator", create_app, Config, default_port=8080)
