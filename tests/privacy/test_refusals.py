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
    Delivery,
    LocalModelQuestion,
    MaskedModels,
    MaskedRound,
    Message,
    RoundQuestion,
    ScoreQuestion,
    Totals,
)
from tests.integration.conftest import Town
from tests.privacy.conftest import TWO_VALIDATORS, RecordedPlatform
from tests.privacy.record import EXCHANGES, Record, exchange_types, read_tape

ROUNDS, INTERVAL = 60, 4

ANSWERED, INVALID = 409, 422


@dataclass(frozen=True)
class Held:
    """A training whose aggregator is held still, and what it has asked so far: the last question of every type."""

    town: Town
    training: uuid.UUID
    trainer: str
    validator: str
    last: dict[type[Message], Any]

    def ask(self, service: str, method: str, path: str, question: Message) -> int:
        """Ask in the aggregator's place, and return the status of the answer."""
        url = f"{self.town.platform.urls[service]}{path.format(self.training)}"
        content = question.pack()
        answer = requests.request(method, url, data=content, headers={"Content-Type": MESSAGEPACK}, timeout=30)
        return answer.status_code

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
    town.platform.supervisor.signal("aggregator", signal.SIGSTOP)
    try:
        time.sleep(0.5)  # what was asked last has been answered
        trainer, validator = one_of_each_role(town, training)
        questions = last_questions(town, training, "buyer", trainer, validator)
        yield Held(town, uuid.UUID(training), trainer, validator, questions)
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
            ({"packed": b"other"}, ANSWERED),
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
        question = held.last[MaskedRound].model_copy(update=change)
        assert held.ask("buyer", "PATCH", "/models/{}", question) == status

    @pytest.mark.parametrize(
        ("change", "status"),
        [
            ({"packed": b"other"}, ANSWERED),
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
        question = held.last[MaskedModels].model_copy(update=change)
        assert held.ask("buyer", "POST", "/models/{}/mse", question) == status

    @pytest.mark.parametrize(
        ("change", "status"),
        [
            ({"ciphertexts": b"other"}, ANSWERED),
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
        question = held.last[Totals].model_copy(update=change)
        assert held.ask("buyer", "PATCH", "/models/{}/mse", question) == status

    def test_takes_no_delivery_before_the_result_is_on_chain(self, held: Held) -> None:
        delivery = Delivery(training=held.training, model="trained", quotients=("0",) * 11)
        assert held.ask("buyer", "PUT", "/models/{}", delivery) == ANSWERED

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


class TestOwners:
    """Answer in their role, and each question once."""

    @pytest.mark.parametrize(
        ("change", "status"),
        [({"model": b"other"}, ANSWERED), ({"round": ROUNDS}, INVALID), ({"round": 10**9}, INVALID)],
    )
    def test_train_in_no_other_round(self, held: Held, change: dict[str, Any], status: int) -> None:
        question = held.last[RoundQuestion].model_copy(update=change)
        assert held.ask(held.trainer, "PUT", "/trainings/{}", question) == status

    @pytest.mark.parametrize(
        ("change", "status"),
        [
            ({"masks": b"other"}, ANSWERED),
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

    def test_keep_to_their_role(self, held: Held) -> None:
        update, score = held.last[RoundQuestion], held.last[ScoreQuestion]
        local = LocalModelQuestion(training=held.training)
        assert held.ask(held.validator, "PUT", "/trainings/{}", update) == ANSWERED
        assert held.ask(held.validator, "POST", "/trainings/{}", local) == ANSWERED
        assert held.ask(held.trainer, "POST", "/trainings/{}/metrics", score) == ANSWERED

    def test_answer_nothing_about_a_finished_training(self, held: Held, record: Record) -> None:
        for name in record.tables:
            for kind in (RoundQuestion, LocalModelQuestion, ScoreQuestion):
                ((_, method, path),) = (key for key, types in EXCHANGES.items() if types[0] is kind)
                _, question = record.asked(kind)[-1]
                path = path.replace("[0-9a-f-]{36}", str(record.training))
                assert held.ask(name, method, path, question) == ANSWERED
