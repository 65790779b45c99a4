"""Questions that somebody asks who may not, or who may and asks what would give something away.

The training that they are about stands still meanwhile, in the middle of its rounds: its aggregator is stopped, and the
test has its account. What services have written of it is the same afterwards.
"""

from __future__ import annotations

import signal
import sqlite3
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import requests

from commons.crypto.packing import draw_masks, to_fixed
from commons.crypto.paillier import PublicKey, ShortRandomisers
from commons.http.bodies import MESSAGEPACK
from commons.protocol.messages import (
    CosignQuestion,
    Delivery,
    LocalModelQuestion,
    MaskedModels,
    MaskedRound,
    Message,
    Products,
    Reply,
    RoundQuestion,
    ScoreQuestion,
    Totals,
    TotalStatement,
    Vector,
)
from commons.protocol.outcome import packed_count
from commons.protocol.totals import statement_of_totals
from scripts.local import diabetes
from tests.attacks.people import Rogue
from tests.integration.conftest import Town
from tests.integration.refusals import refused
from tests.signing import OUTSIDER, Voice, voice

LENGTH = len(diabetes.FEATURES) + 1
UNREACHED = 280
"""A round of the order, and one that is evaluated, before which its tolerance ends the training."""
TRAINERS = (0, 1, 2)


@dataclass(frozen=True)
class Held:
    """A training in the middle of its rounds, and who is in it."""

    town: Town
    id: uuid.UUID
    key: PublicKey
    trainer: str
    validator: str
    late: str
    """An owner that is registered, and takes no part."""

    def url(self, service: str, path: str) -> str:
        return self.town.platform.urls[service] + path.format(self.id)

    def voice(self, name: str, rogue: Rogue) -> Voice:
        if name == "another aggregator":
            return rogue.voice(rogue.aggregator)
        if name == "another buyer":
            return rogue.voice(rogue.buyer)
        return voice(self.town.platform, {"trainer": self.trainer, "validator": self.validator}.get(name, name))

    @property
    def model(self) -> bytes:
        """Weights of the asker's choice under the training's key: all ones."""
        fresh = ShortRandomisers(self.key).take(LENGTH)
        return self.key.encode(self.key.encrypt(to_fixed(1.0), each) for each in fresh)

    @property
    def masked(self) -> bytes:
        """A model, all zeros, under the masks that the protocol prescribes."""
        fresh = ShortRandomisers(self.key).take(LENGTH)
        return self.key.encode(map(self.key.encrypt, draw_masks(LENGTH), fresh))

    def written(self, service: str) -> list[tuple[Any, ...]]:
        """What a service has written of the training: what it has answered, and what it knows."""
        table = "models" if service == "buyer" else "trainings"
        file = self.town.platform.directory / service / "service.db"
        identifier = (self.id.hex,)
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
            rows = database.execute(
                "SELECT kind, round, question_digest FROM journal WHERE training_id = ?", identifier
            )
            return sorted(rows) + database.execute(f"SELECT * FROM {table} WHERE id = ?", identifier).fetchall()

    @contextmanager
    def untouched(self, service: str) -> Iterator[None]:
        before = self.written(service)
        yield
        assert self.written(service) == before


@pytest.fixture(scope="module")
def held(town: Town) -> Iterator[Held]:
    hyper = {"iterations": 300, "learning_rate": 1.5, "evaluation_interval": 20, "tolerance": 0.999}
    training = town.order(hyper_parameters=hyper, participants={"wanted": 4, "minimum": 3})
    *taking_part, late = town.members
    town.accept(training, *taking_part)
    while town.aggregator.training(training)["iteration"] < 2:
        time.sleep(0.02)
    roles = town.aggregator.training(training)["roles"]
    names = {member.address: name for name, member in town.members.items()}
    town.platform.supervisor.signal("aggregator", signal.SIGSTOP)
    try:
        for name in taking_part:
            town.members[name].owner.wait_for_status(training, "IN_PROGRESS")
        time.sleep(0.3)  # what was asked last has been answered
        trainer, validator = names[roles["trainers"][0]], names[roles["validators"][0]]
        modulus = int(town.members[trainer].owner.training(training)["order"]["modulus"], 16)
        yield Held(town, uuid.UUID(training), PublicKey.from_modulus(modulus), trainer, validator, late)
    finally:
        town.platform.supervisor.signal("aggregator", signal.SIGCONT)
    assert len(town.buyer.wait_finished(training)["model"]["weights"]) == LENGTH


ASKING = [OUTSIDER, "buyer", "arbiter", "late", "trainer", "validator", "another aggregator", "another buyer"]


def owner_questions(held: Held, model: bytes) -> list[tuple[str, str, str, Message]]:
    """Return what an owner would be asked for its gradients and metrics, about a model."""
    pairs = LENGTH * (LENGTH + 1) // 2
    score = ScoreQuestion(
        training=held.id,
        kind="iteration",
        round=UNREACHED,
        trainers=TRAINERS,
        masked=model,
        products=model[:512] * pairs,
        proof=b"none",
        masks=bytes(21 * LENGTH),
    )
    reply = Reply(place=0, content=b"none", signature=bytes(65))
    sums = CosignQuestion(
        training=held.id, kind="zero", round=0, answers=(reply,), totals=model[:512], randomisers=bytes(256)
    )
    return [
        (
            held.trainer,
            "PUT",
            "/trainings/{}",
            RoundQuestion(training=held.id, round=200, included=(0, 1), model=model),
        ),
        (held.trainer, "POST", "/trainings/{}", LocalModelQuestion(training=held.id)),
        (held.validator, "POST", "/trainings/{}/metrics", score),
        (held.validator, "POST", "/trainings/{}/cosign", sums),
    ]


@pytest.mark.parametrize("asking", ASKING)
@pytest.mark.parametrize("choice", ["own key", "own weights"])
def test_no_owner_gives_gradients_or_metrics_to_anybody_but_its_trainings_aggregator(
    http: requests.Session, held: Held, rogue: Rogue, asking: str, choice: str
) -> None:
    own = rogue.key.public_key.encode(rogue.key.encrypt([to_fixed(1.0)] * LENGTH))
    name = held.late if asking == "late" else asking
    for owner, method, path, question in owner_questions(held, own if choice == "own key" else held.model):
        with held.untouched(owner):
            answer = held.voice(name, rogue).say(http, method, held.url(owner, path), question)
            assert f"is for {held.town.platform.accounts['aggregator'].address}" in refused(answer, 403)


def test_no_owner_answers_what_nobody_signed(http: requests.Session, held: Held) -> None:
    for owner, method, path, question in owner_questions(held, held.model):
        with held.untouched(owner):
            headers = {"Content-Type": MESSAGEPACK}
            refused(http.request(method, held.url(owner, path), data=question.pack(), headers=headers), 401)


def test_no_owner_takes_another_key_for_a_training_that_it_knows(
    http: requests.Session, held: Held, rogue: Rogue
) -> None:
    """Under its own key an outsider could read the gradients that it is not given."""
    url, buyer = held.url(held.trainer, "/trainings"), held.town.platform.accounts["buyer"].address
    shown = held.town.members[held.trainer].owner.training(str(held.id))
    with held.untouched(held.trainer):
        mine = rogue.voice(rogue.buyer).say(http, "POST", url, rogue.request(held.id))
        assert "the chain says" in refused(mine, 409)
        in_its_name = rogue.voice(rogue.buyer).say(http, "POST", url, rogue.request(held.id, buyer))
        assert buyer in refused(in_its_name, 403)
    assert held.town.members[held.trainer].owner.training(str(held.id)) == shown


@pytest.fixture(scope="module")
def products(http: requests.Session, held: Held) -> tuple[MaskedModels, Products]:
    """An evaluation that is not over: its products are there, and nobody has signed a sum."""
    question = MaskedModels(training=held.id, kind="iteration", round=UNREACHED, trainers=TRAINERS, masked=held.masked)
    url = held.url("buyer", "/models/{}/mse")
    answer = voice(held.town.platform, "aggregator").say(http, "POST", url, question)
    assert answer.status_code == 200, answer.text
    return question, Products.unpack(answer.content)


@pytest.mark.parametrize("signed_by", ["nobody", "aggregator", "trainer", "validator, but other sums"])
def test_no_sum_is_opened_that_its_validators_did_not_sign(
    http: requests.Session,
    held: Held,
    rogue: Rogue,
    products: tuple[MaskedModels, Products],
    signed_by: str,
) -> None:
    one = encrypted(held, 1)
    who, _, other = signed_by.partition(", but ")
    statement = statement_of(products, encrypted(held, 2) if other else one)
    cosigned = () if who == "nobody" else (held.voice(who, rogue).signer.sign(statement).signature,)
    question = Totals(
        training=held.id,
        kind="iteration",
        round=UNREACHED,
        validators=(0,),
        ciphertexts=one,
        question=statement.question,
        masks=statement.masks,
        commitments=(),
        cosignatures=cosigned,
    )
    answer = to_open(http, held, question)
    assert "its validators did not co-sign them" in refused(answer, 409)
    assert not any(row[:2] == ("open-iteration", UNREACHED) for row in held.written("buyer"))
    history = held.town.buyer.model(str(held.id))["metrics"]["mse_history"]
    assert UNREACHED not in {point["iteration"] for point in history}


def to_open(http: requests.Session, held: Held, question: Totals) -> requests.Response:
    aggregator = voice(held.town.platform, "aggregator")
    return aggregator.say(http, "PATCH", held.url("buyer", "/models/{}/mse"), question)


def encrypted(held: Held, value: int) -> bytes:
    return held.key.encode([held.key.encrypt(value, ShortRandomisers(held.key).take(1)[0])])


def statement_of(products: tuple[MaskedModels, Products], sums: bytes) -> TotalStatement:
    models, answered = products
    totals = Totals(
        training=models.training,
        kind="iteration",
        round=models.round,
        validators=(0,),
        ciphertexts=sums,
        question=bytes(32),
        masks=bytes(32),
        commitments=(),
        cosignatures=(),
    )
    return statement_of_totals(totals, models, answered.ciphertexts)


def test_no_route_of_the_buyer_decrypts_weights(held: Held, buyer_routes: list[tuple[str, str]]) -> None:
    """Each route, with each kind of question, about the model itself and without its token."""
    ask = voice(held.town.platform, "aggregator")
    one = held.model[:512]
    questions: list[Message] = [
        Vector(ciphertexts=held.model),
        RoundQuestion(training=held.id, round=UNREACHED, included=(0, 1), model=held.model),
        MaskedRound(training=held.id, round=0, trainers=TRAINERS, packed=one),
        MaskedModels(training=held.id, kind="zero", round=0, trainers=TRAINERS, masked=held.model),
        Totals(
            training=held.id, kind="settlement", round=300, validators=(0,), ciphertexts=held.model,
            question=bytes(32), masks=bytes(32), commitments=(bytes(32),) * 2, cosignatures=(bytes(65),),
        ),
        Delivery(training=held.id, model="trained", quotients=("0",) * LENGTH, salt=bytes(32)),
    ]  # fmt: skip
    statuses = set()
    url = held.town.platform.urls["buyer"]
    with held.untouched("buyer"), requests.Session() as nobody:
        nobody.trust_env = False
        for method, path in buyer_routes:
            for question in questions:
                answer = ask.say(nobody, method, url + path.format(held.id), question)
                if answer.url.startswith(f"{url}/login"):  # a page, which asks to log in first
                    continue
                statuses.add(answer.status_code)
                assert 400 <= answer.status_code < 500, (method, path, type(question), answer.text)
    assert statuses <= {400, 401, 403, 404, 405, 409, 415, 422}, statuses


def test_what_the_order_allows_is_answered_in_ciphertexts(http: requests.Session, held: Held) -> None:
    """A bare model in place of a masked one: the aggregator is given ciphertexts again, with fresh randomness."""
    count = packed_count(LENGTH, held.key)
    question = MaskedRound(training=held.id, round=UNREACHED, trainers=TRAINERS, packed=held.model[: 512 * count])
    url = held.url("buyer", "/models/{}")
    answer = voice(held.town.platform, "aggregator").say(http, "PATCH", url, question)
    assert answer.status_code == 200, answer.text
    divided = held.key.decode(Vector.unpack(answer.content).ciphertexts, LENGTH)
    assert len(set(divided)) == LENGTH
    assert not any((each - 1) % held.key.n == 0 for each in divided), "a ciphertext that hides nothing"


def test_the_final_model_is_not_there_before_the_result_is_on_chain(
    http: requests.Session, held: Held, rogue: Rogue
) -> None:
    """Not for the user that ordered it, not by a delivery of the aggregator, nor of somebody else."""
    delivery = Delivery(training=held.id, model="trained", quotients=("0",) * LENGTH, salt=bytes(32))
    with held.untouched("buyer"):
        refused(http.get(held.url("buyer", "/models/{}/download")), 409)
        rows = {"model_id": str(held.id), "rows": [[0.0] * (LENGTH - 1)]}
        refused(http.post(held.url("buyer", "/predictions"), json=rows), 409)
        assert http.get(held.url("buyer", "/models/{}")).json()["model"]["weights"] is None
        by_aggregator = voice(held.town.platform, "aggregator")
        answer = by_aggregator.say(http, "PUT", held.url("buyer", "/models/{}"), delivery)
        assert "is TRAINING on chain: nothing to deliver now" in refused(answer, 409)
        answer = rogue.voice(rogue.aggregator).say(http, "PUT", held.url("buyer", "/models/{}"), delivery)
        assert f"is for {held.town.platform.accounts['aggregator'].address} to ask" in refused(answer, 403)
