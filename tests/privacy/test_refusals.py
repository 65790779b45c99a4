"""What no order implies, nobody answers: asked in the middle of a training, and after it, as an aggregator might."""

from __future__ import annotations

import signal
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import requests

from commons.http.bodies import MESSAGEPACK
from commons.protocol.messages import (
    CosignQuestion,
    Delivery,
    LocalModelQuestion,
    MaskedModels,
    MaskedRound,
    Message,
    Metric,
    RoundQuestion,
    ScoreQuestion,
    Totals,
    TrainingMessage,
    Vector,
)
from tests.integration.conftest import Town
from tests.privacy.conftest import TWO_VALIDATORS, RecordedPlatform
from tests.privacy.record import EXCHANGES, Record, exchange_types, read_tape
from tests.signing import OUTSIDER, voice

ROUNDS, INTERVAL = 60, 4

ONE = (1).to_bytes(256, "big")
"""A randomiser that changes nothing."""

GRANTED, UNSIGNED, FORBIDDEN, ANSWERED, INVALID = 200, 401, 403, 409, 422


OTHERS, CIPHERTEXT = "other ciphertexts", 512


@dataclass(frozen=True)
class Held:
    """A training whose aggregator is held still, and what it has asked so far: the last question of every type."""

    town: Town
    training: uuid.UUID
    trainer: str
    validator: str
    place: int
    """The validator's among the validators."""
    last: dict[type[Message], Any]

    def ask(self, service: str, method: str, path: str, question: Message, by: str | None = "aggregator") -> int:
        """Ask in the aggregator's place, or as somebody else, or unsigned, and return the status of the answer."""
        url = f"{self.town.platform.urls[service]}{path.format(self.training)}"
        if by is None:
            headers = {"Content-Type": MESSAGEPACK}
            return requests.request(method, url, data=question.pack(), headers=headers, timeout=30).status_code
        with requests.Session() as http:
            return voice(self.town.platform, by).say(http, method, url, question).status_code

    def decryptions(self) -> int:
        """Return how often the buyer has used a private key."""
        return sum(entry["what"] in ("decrypted", "opened") for entry in tape(self.town, "buyer"))


def tape(town: Town, name: str) -> list[Any]:
    assert isinstance(town.platform, RecordedPlatform)
    return read_tape(town.platform.tape(name))


@pytest.fixture(scope="module")
def stopped_early(recorded_town: Town) -> MaskedRound:
    """The last round that was divided in a training which its tolerance ended long before its last round."""
    hyper = {"iterations": ROUNDS, "learning_rate": 1.0, "evaluation_interval": INTERVAL, "tolerance": 0.99}
    training = recorded_town.train(hyper_parameters=hyper, participants=TWO_VALIDATORS)
    recorded_town.buyer.wait_finished(training)
    question: MaskedRound = last_questions(recorded_town, training, "buyer")[MaskedRound]
    assert question.round < ROUNDS // 2
    return question


@pytest.fixture(scope="module")
def held(recorded_town: Town, record: Record, stopped_early: MaskedRound) -> Iterator[Held]:
    town = recorded_town
    hyper = {"iterations": ROUNDS, "learning_rate": 1.0, "evaluation_interval": INTERVAL}
    training = town.train(hyper_parameters=hyper, participants=TWO_VALIDATORS)
    while town.aggregator.training(training)["iteration"] < 2 * INTERVAL:
        time.sleep(0.05)
    validators = town.aggregator.training(training)["roles"]["validators"]
    town.platform.supervisor.signal("aggregator", signal.SIGSTOP)
    try:
        time.sleep(0.5)  # what was asked last has been answered
        trainer, validator = one_of_each_role(town, training)
        questions = last_questions(town, training, "buyer", validator, trainer)
        place = validators.index(town.platform.accounts[validator].address)
        yield Held(town, uuid.UUID(training), trainer, validator, place, questions)
    finally:
        town.platform.supervisor.signal("aggregator", signal.SIGCONT)
        town.buyer.wait_finished(training)


def one_of_each_role(town: Town, training: str) -> tuple[str, str]:
    role = {name: member.owner.training(training)["role"] for name, member in town.members.items()}
    return next(n for n, r in role.items() if r == "TRAINER"), next(n for n, r in role.items() if r == "VALIDATOR")


def last_questions(town: Town, training: str, *names: str) -> dict[type[Message], Any]:
    """Return the last question of every type that these services have answered, but about the settlement."""
    found: dict[type[Message], Any] = {}
    for name in names:
        for entry in tape(town, name):
            if entry["what"] == "served" and training in entry["path"] and entry["status"] == 200:
                if (name.partition("-")[0], entry["method"]) == ("owner", "GET") or b"training" not in entry["request"]:
                    continue
                kind, _ = exchange_types(name, entry["method"], entry["path"])
                assert kind is not None
                question = kind.unpack(entry["request"])
                if getattr(question, "kind", "iteration") == "iteration":
                    found[kind] = question
    return found


class TestBuyer:
    """Is no decryption oracle: what it refuses it does not decrypt either."""

    @pytest.fixture(autouse=True)
    def nothing_is_decrypted(self, held: Held) -> Iterator[None]:
        before = held.decryptions()
        yield
        assert held.decryptions() == before

    @pytest.mark.parametrize(
        ("change", "status"),
        [
            ({"packed": b"other"}, INVALID),
            ({"packed": OTHERS}, ANSWERED),
            ({"trainers": (0, 1)}, ANSWERED),
            ({"round": ROUNDS - 1}, INVALID),
            ({"round": 10**9}, INVALID),
            ({"round": ROUNDS - 2, "trainers": (0,)}, INVALID),
            ({"round": ROUNDS - 2, "trainers": (0, 0)}, INVALID),
            ({"round": ROUNDS - 2, "trainers": (0, 7)}, INVALID),
            ({"round": ROUNDS - 2, "trainers": (-1, 0)}, INVALID),
            ({"round": ROUNDS - 2, "packed": b""}, INVALID),
        ],
    )
    def test_divides_no_other_round(self, held: Held, change: dict[str, Any], status: int) -> None:
        question = held.last[MaskedRound].model_copy(update=_with_others(held, held.last[MaskedRound], change))
        assert held.ask("buyer", "PATCH", "/models/{}", question) == status

    @pytest.mark.parametrize(
        ("change", "status"),
        [
            ({"masked": b"other"}, INVALID),
            ({"masked": OTHERS}, ANSWERED),
            ({"round": 0}, INVALID),
            ({"round": INTERVAL + 1}, INVALID),
            ({"round": ROUNDS}, INVALID),
            ({"round": 2 * ROUNDS}, INVALID),
            ({"round": ROUNDS - INTERVAL, "trainers": ()}, INVALID),
            ({"round": ROUNDS - INTERVAL, "contributors": (0, 1)}, INVALID),
            ({"kind": "settlement"}, INVALID),
            ({"kind": "settlement", "round": ROUNDS + 1, "contributors": (0, 1)}, INVALID),
            ({"kind": "zero"}, INVALID),
        ],
    )
    def test_multiplies_no_other_models(self, held: Held, change: dict[str, Any], status: int) -> None:
        question = held.last[MaskedModels].model_copy(update=_with_others(held, held.last[MaskedModels], change))
        assert held.ask("buyer", "POST", "/models/{}/mse", question) == status

    @pytest.mark.parametrize(
        ("change", "status"),
        [
            ({"ciphertexts": b"other"}, INVALID),
            ({"ciphertexts": OTHERS}, ANSWERED),
            ({"cosignatures": ()}, ANSWERED),
            ({"commitments": (bytes(32),)}, ANSWERED),
            ({"validators": (0,)}, ANSWERED),
            ({"validators": ()}, INVALID),
            ({"round": INTERVAL + 1}, ANSWERED),
            ({"round": ROUNDS - INTERVAL}, ANSWERED),  # before its products
            ({"kind": "settlement"}, ANSWERED),
            ({"kind": "zero", "round": 0}, ANSWERED),
            ({"kind": "zero", "round": 1}, ANSWERED),
            ({"kind": "zero", "round": 2}, INVALID),
        ],
    )
    def test_opens_no_other_totals(self, held: Held, change: dict[str, Any], status: int) -> None:
        question = held.last[Totals].model_copy(update=_with_others(held, held.last[Totals], change))
        assert held.ask("buyer", "PATCH", "/models/{}/mse", question) == status

    def test_takes_no_delivery_before_the_result_is_on_chain(self, held: Held) -> None:
        delivery = Delivery(training=held.training, model="trained", quotients=("0",) * 11, salt=bytes(32))
        assert held.ask("buyer", "PUT", "/models/{}", delivery) == ANSWERED

    @pytest.mark.parametrize("by", [None, OUTSIDER, "buyer", "arbiter", "owner-1", "owner-2"])
    def test_answers_nobody_but_the_aggregator(self, held: Held, by: str | None) -> None:
        """Not even what it has answered before."""
        for kind, method, path in (
            (MaskedRound, "PATCH", "/models/{}"),
            (MaskedModels, "POST", "/models/{}/mse"),
            (Totals, "PATCH", "/models/{}/mse"),
        ):
            assert held.ask("buyer", method, path, held.last[kind], by) == (UNSIGNED if by is None else FORBIDDEN)

    def test_opens_nothing_of_a_finished_training(self, held: Held, record: Record) -> None:
        """Not even what its order had left: an owner could have its encrypted model opened as such a total."""
        rounds = [
            question.model_copy(update={"round": question.round + 1}) for _, question in record.asked(MaskedRound)
        ]
        *_, (_, products), _ = record.asked(MaskedModels)
        *_, (_, totals) = record.asked(Totals)
        hyper = record.order.hyper_parameters
        for method, path, question in (
            *(("PATCH", "", question) for question in rounds[:-1]),
            ("POST", "/mse", products.model_copy(update={"round": hyper.iterations})),
            ("PATCH", "/mse", totals.model_copy(update={"kind": "iteration", "round": hyper.iterations})),
            ("PATCH", "/mse", totals.model_copy(update={"kind": "zero", "round": 1})),
            ("PATCH", "/mse", totals.model_copy(update={"kind": "settlement", "round": 1})),
        ):
            path = f"/models/{record.training}{path}"
            assert held.ask("buyer", method, path, question) in (ANSWERED, INVALID)

    def test_divides_nothing_that_an_early_stop_has_left(self, held: Held, stopped_early: MaskedRound) -> None:
        for round_ in range(stopped_early.round + 1, ROUNDS - 1):
            question = stopped_early.model_copy(update={"round": round_})
            assert held.ask("buyer", "PATCH", f"/models/{question.training}", question) == ANSWERED


def _with_others(held: Held, question: TrainingMessage, change: dict[str, Any]) -> dict[str, Any]:
    """Put as many other ciphertexts as there are where a change says so."""
    rotated = held.last[MaskedModels].masked[CIPHERTEXT:] + held.last[MaskedModels].masked[:CIPHERTEXT]
    return {
        name: rotated[: len(getattr(question, name))] if value == OTHERS else value for name, value in change.items()
    }


class TestOwners:
    """Answer in their role, and each question once."""

    @pytest.mark.parametrize(
        ("change", "status"),
        [
            ({"model": b"other"}, ANSWERED),
            ({"included": (0, 1)}, ANSWERED),
            ({"round": ROUNDS}, INVALID),
            ({"round": 10**9}, INVALID),
        ],
    )
    def test_train_in_no_other_round(self, held: Held, change: dict[str, Any], status: int) -> None:
        question = held.last[RoundQuestion].model_copy(update=change)
        assert held.ask(held.trainer, "PUT", "/trainings/{}", question) == status

    @pytest.mark.parametrize(
        ("change", "status"),
        [
            ({"masks": b"other"}, ANSWERED),
            ({"proof": b"other"}, ANSWERED),
            ({"salts": b"other"}, ANSWERED),
            ({"round": INTERVAL + 1}, INVALID),
            ({"round": ROUNDS}, INVALID),
            ({"round": ROUNDS - INTERVAL, "trainers": ()}, INVALID),  # a scale of 0, and no noise
            ({"round": ROUNDS - INTERVAL, "trainers": (0,)}, INVALID),
            ({"round": ROUNDS - INTERVAL, "trainers": (0, 7)}, INVALID),
            ({"round": ROUNDS - INTERVAL, "contributors": (0, 1)}, INVALID),
            ({"kind": "settlement"}, INVALID),
            ({"kind": "settlement", "round": ROUNDS + 1, "contributors": (0, 1)}, INVALID),
            ({"kind": "zero", "round": 2}, INVALID),
        ],
    )
    def test_score_in_no_other_evaluation(self, held: Held, change: dict[str, Any], status: int) -> None:
        question = held.last[ScoreQuestion].model_copy(update=change)
        assert held.ask(held.validator, "POST", "/trainings/{}/metrics", question) == status

    @pytest.mark.parametrize(
        ("change", "status"),
        [
            ({}, GRANTED),
            ({"totals": "single"}, ANSWERED),
            ({"totals": "single", "randomisers": ONE}, ANSWERED),
            ({"totals": "single", "randomisers": ONE, "answers": "others"}, ANSWERED),  # its own is not among them
            ({"answers": "twice"}, INVALID),
            ({"answers": ()}, INVALID),
            ({"randomisers": b"other"}, INVALID),
            ({"round": ROUNDS - INTERVAL}, ANSWERED),
            ({"kind": "zero", "round": 0}, ANSWERED),  # what was answered to another question
            ({"kind": "settlement", "round": ROUNDS}, ANSWERED),
        ],
    )
    def test_sign_no_other_sums(self, held: Held, change: dict[str, Any], status: int) -> None:
        question: CosignQuestion = held.last[CosignQuestion]
        others = tuple(reply for reply in question.answers if reply.place != held.place)
        (single,) = (Vector.unpack(reply.content).ciphertexts for reply in others)
        made: dict[str, Any] = {"single": single, "others": others, "twice": question.answers * 2}
        change = {name: made.get(value, value) if isinstance(value, str) else value for name, value in change.items()}
        assert held.ask(held.validator, "POST", "/trainings/{}/cosign", question.model_copy(update=change)) == status

    @pytest.mark.parametrize("by", [None, OUTSIDER, "buyer", "arbiter", "other", "itself"])
    def test_answer_nobody_but_the_aggregator(self, held: Held, by: str | None) -> None:
        for owner, other, kind, method, path in (
            (held.trainer, held.validator, RoundQuestion, "PUT", "/trainings/{}"),
            (held.validator, held.trainer, ScoreQuestion, "POST", "/trainings/{}/metrics"),
            (held.validator, held.trainer, CosignQuestion, "POST", "/trainings/{}/cosign"),
            (held.trainer, held.validator, Metric, "PUT", "/trainings/{}/metrics"),
        ):
            who = {"other": other, "itself": owner}.get(by or "", by)
            assert held.ask(owner, method, path, held.last[kind], who) == (UNSIGNED if by is None else FORBIDDEN)

    def test_keep_to_their_role(self, held: Held) -> None:
        update, score = held.last[RoundQuestion], held.last[ScoreQuestion]
        local = LocalModelQuestion(training=held.training)
        assert held.ask(held.validator, "PUT", "/trainings/{}", update) == ANSWERED
        assert held.ask(held.validator, "POST", "/trainings/{}", local) == ANSWERED
        assert held.ask(held.trainer, "POST", "/trainings/{}/metrics", score) == ANSWERED
        assert held.ask(held.trainer, "POST", "/trainings/{}/cosign", held.last[CosignQuestion]) == ANSWERED

    def test_answer_nothing_about_a_finished_training(self, held: Held, record: Record) -> None:
        for name in record.tables:
            for kind in (RoundQuestion, LocalModelQuestion, ScoreQuestion, CosignQuestion):
                ((_, method, path),) = (key for key, types in EXCHANGES.items() if types[0] is kind)
                _, question = record.asked(kind)[-1]
                path = path.replace("[0-9a-f-]{36}", str(record.training))
                assert held.ask(name, method, path, question) == ANSWERED
