"""Questions between services that the protocol has not: refused in plain words, and the training goes on.

The training that they are about stands still meanwhile, in the middle of its rounds: its aggregator is stopped.
"""

from __future__ import annotations

import json
import signal
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ormsgpack
import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st

from commons.crypto.packing import SLOT_BITS
from commons.crypto.paillier import PublicKey
from commons.crypto.signatures import SIGNATURE_BYTES
from commons.http.bodies import MESSAGEPACK
from commons.http.signatures import SIGNATURE_HEADER
from commons.protocol.messages import (
    PROTOCOL_VERSION,
    Acceptance,
    CosignQuestion,
    Delivery,
    LocalModelQuestion,
    MaskedModels,
    MaskedRound,
    Message,
    Metric,
    Moments,
    MomentsCosignQuestion,
    MomentsQuestion,
    MomentsTotals,
    Notice,
    OwnerRegistration,
    RoundQuestion,
    ScoreQuestion,
    Totals,
    TrainingRequest,
)
from commons.protocol.outcome import packed_count
from commons.protocol.signed import Domain, Signer
from scripts.local import diabetes, flow
from tests.integration.conftest import Town
from tests.integration.refusals import GONE, Json, refused, send, session, unchanged, with_value
from tests.signing import OUTSIDER, Voice, domain, voice

LENGTH = len(diabetes.FEATURES) + 1


@pytest.fixture(scope="module")
def http(town: Town) -> Iterator[requests.Session]:
    with session(town) as made:
        yield made


def test_order_that_is_not_on_chain_is_refused(town: Town, http: requests.Session) -> None:
    for service, path in (("aggregator", "/model"), ("owner-1", "/trainings")):
        with unchanged(town, service) as url:
            request = training_request(town)
            answer = voice(town.platform, "buyer").send(http, "POST", url + path, TrainingRequest, request)
            assert f"training {request['training']} is not on chain" in refused(answer, 409)


def test_order_that_the_chain_knows_otherwise_is_refused(town: Town, http: requests.Session) -> None:
    known = town.order(terms={"join_seconds": 1})
    with pytest.raises(flow.TrainingFailed, match="is CANCELLED"):
        town.buyer.wait_finished(known)
    for service, path in (("aggregator", "/model"), ("owner-1", "/trainings")):
        with unchanged(town, service) as url:
            request = training_request(town, training=known)
            answer = voice(town.platform, "buyer").send(http, "POST", url + path, TrainingRequest, request)
            assert "the chain says" in refused(answer, 409)


@pytest.mark.parametrize(("service", "path"), [("aggregator", "/model"), ("owner-1", "/trainings")])
def test_order_that_its_buyer_has_not_signed_is_refused(
    town: Town, http: requests.Session, service: str, path: str
) -> None:
    request = training_request(town)
    with unchanged(town, service) as url:
        refused(send(http, "POST", url + path, request), 401)
        for somebody in (OUTSIDER, "aggregator", "owner-2"):
            answer = voice(town.platform, somebody).send(http, "POST", url + path, TrainingRequest, request)
            assert town.platform.accounts["buyer"].address in refused(answer, 403)


def test_owner_is_registered_by_nobody_else(town: Town, http: requests.Session) -> None:
    address = town.platform.accounts["owner-1"].address
    body = {"version": PROTOCOL_VERSION, "address": address, "url": "http://127.0.0.1:1"}
    with unchanged(town, "aggregator") as url:
        refused(http.post(f"{url}/dataowner", json=body), 401)
        for somebody in (OUTSIDER, "owner-2", "buyer", "aggregator"):
            answer = voice(town.platform, somebody).send(http, "POST", f"{url}/dataowner", OwnerRegistration, body)
            assert address in refused(answer, 403)


def test_acceptance_is_announced_by_nobody_else(town: Town, http: requests.Session) -> None:
    training_id, address = str(uuid.uuid4()), town.platform.accounts["owner-1"].address
    body = {"version": PROTOCOL_VERSION, "training": training_id, "address": address}
    with unchanged(town, "aggregator") as base:
        url = f"{base}/model/{training_id}/accept"
        refused(send(http, "POST", url, body), 401)
        for somebody in (OUTSIDER, "owner-1", "owner-2", "buyer", "aggregator"):
            refused(voice(town.platform, somebody).send(http, "POST", url, Acceptance, body), 404)


def test_acceptance_that_is_not_on_chain_is_not_announced(town: Town, http: requests.Session) -> None:
    known = town.order(terms={"join_seconds": 1})
    with pytest.raises(flow.TrainingFailed, match="is CANCELLED"):
        town.buyer.wait_finished(known)
    with unchanged(town, "aggregator") as base:
        for somebody in (OUTSIDER, "owner-1", "buyer", "aggregator"):
            says = voice(town.platform, somebody)
            body = {"version": PROTOCOL_VERSION, "training": known, "address": says.signer.address}
            answer = says.send(http, "POST", f"{base}/model/{known}/accept", Acceptance, body)
            assert "this is for nobody to ask" in refused(answer, 403)


def test_owners_are_listed_for_users_and_shown_to_arbiters_in_a_dispute_only(
    town: Town, http: requests.Session
) -> None:
    url = f"{town.platform.urls['aggregator']}/dataowner"
    listed = http.get(url).json()["data_owners"]
    assert len(listed) >= len(town.members)
    for somebody in (OUTSIDER, "owner-1", "buyer", "aggregator", "arbiter"):
        assert "in the dispute of which" in refused(http.get(url, auth=voice(town.platform, somebody).auth), 403)
    assert "log in" in refused(requests.get(url, timeout=30), 401)


@pytest.mark.parametrize(
    "signature",
    ["", "0x", "0x" + "ab" * (SIGNATURE_BYTES - 1), "ab" * SIGNATURE_BYTES, "0x" + "00" * SIGNATURE_BYTES]
    + ["0x" + "ff" * SIGNATURE_BYTES, "0x" + "xy" * SIGNATURE_BYTES],
)
def test_signature_that_is_none_is_refused(town: Town, http: requests.Session, signature: str) -> None:
    for service, path in (("aggregator", "/model"), ("owner-1", "/trainings")):
        headers = {"Content-Type": MESSAGEPACK, SIGNATURE_HEADER: signature}
        with unchanged(town, service) as url:
            body, auth = ormsgpack.packb(training_request(town)), voice(town.platform, "buyer").auth
            refused(http.post(url + path, data=body, headers=headers, auth=auth), 401)


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        ("version", PROTOCOL_VERSION + 1, "version"),
        ("training", "me", "training"),
        ("chain_id", "31337", "chain_id"),
        ("buyer", "0x12", "buyer"),
        ("buyer_url", "ftp://x", "buyer_url"),
        ("buyer_url", "http://a b", "buyer_url"),
        ("buyer_url", "http://a@b", "buyer_url"),
        ("aggregator_url", "http://a/?b", "aggregator_url"),
        ("aggregator_url", "http://x/\0", "aggregator_url"),
        ("order.modulus", "xyz", "order.modulus"),
        ("order.modulus", 7, "order.modulus"),
        ("order.hyper_parameters.iterations", -1, "order.hyper_parameters.iterations"),
        ("order", GONE, "order"),
        ("key_proof", GONE, "key_proof"),
        ("key_proof", 7, "key_proof"),
        ("extra", 1, "extra"),
    ],
)
def test_bad_request_for_a_training_is_refused(
    town: Town, http: requests.Session, path: str, value: Any, field: str
) -> None:
    for service, route in (("aggregator", "/model"), ("owner-1", "/trainings")):
        body = with_value(training_request(town), path, value)
        answer = voice(town.platform, "buyer").send(
            http, "POST", town.platform.urls[service] + route, TrainingRequest, body
        )
        refused(answer, 422, field)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"address": "0x12"}, "address"),
        ({"address": "owner"}, "address"),
        ({"url": "owner"}, "url"),
        ({"url": "http://"}, "url"),
        ({"url": "http://x\0"}, "url"),
        ({"url": "http://x/" + "y" * 500}, "url"),
        ({"url": "http://me:secret@x"}, "url"),
        ({"url": "http://x?y=z"}, "url"),
        ({"url": "http://x/#y"}, "url"),
        ({"version": 0}, "version"),
    ],
)
def test_bad_registration_is_refused(town: Town, http: requests.Session, change: Json, field: str) -> None:
    body = {"version": PROTOCOL_VERSION, "address": "0x" + "12" * 20, "url": "http://127.0.0.1:1"}
    with unchanged(town, "aggregator") as url:
        answer = voice(town.platform, "owner-1").send(
            http, "POST", f"{url}/dataowner", OwnerRegistration, body | change
        )
        refused(answer, 422, field)


def training_request(town: Town, **change: Any) -> Json:
    """Return a well-formed request for a training that is not on chain."""
    return {
        "version": PROTOCOL_VERSION,
        "training": str(uuid.uuid4()),
        "chain_id": 31337,
        "contract": town.buyer.contract()["address"],
        "buyer": town.platform.accounts["buyer"].address,
        "buyer_url": town.platform.urls["buyer"],
        "aggregator_url": town.platform.urls["aggregator"],
        "order": {
            "model_type": "LINEAR_REGRESSION",
            "data_requirements": {
                "features": {"list": ["age"], "range": [-2.0, 2.0]},
                "target": {"name": "target", "range": [25.0, 346.0]},
            },
            "hyper_parameters": {},
            "participants": {},
            "modulus": f"{(1 << 2047) + 1:x}",
        },
        "key_proof": b"none",
        **change,
    }


@dataclass(frozen=True)
class Frozen:
    """A training that stands still, since its aggregator is stopped, in the middle of its rounds."""

    town: Town
    id: str
    key: PublicKey
    names: Mapping[str, str]
    """Of the services that are the buyer, a trainer and a validator of it."""
    aggregator: Voice
    """Speaks in its place."""

    @property
    def vector(self) -> bytes:
        """A model of the right form."""
        return self.key.encode([self.key.trivial(0)] * LENGTH)

    def url(self, who: str, path: str) -> str:
        return self.town.platform.urls[self.names[who]] + path.format(self.id)

    def message(self, **fields: Any) -> Json:
        return {"version": PROTOCOL_VERSION, "training": self.id, **fields}

    def written(self, who: str) -> list[tuple[Any, ...]]:
        """What a service has written of the training: what it has answered, and what it knows."""
        tables = {"buyer": "models"}.get(who, "trainings")
        database = sqlite3.connect(
            f"file:{self.town.platform.directory / self.names[who] / 'service.db'}?mode=ro", uri=True
        )
        identifier = (uuid.UUID(self.id).hex,)
        rows = database.execute("SELECT kind, round, question_digest FROM journal WHERE training_id = ?", identifier)
        return sorted(rows) + database.execute(f"SELECT * FROM {tables} WHERE id = ?", identifier).fetchall()


@pytest.fixture(scope="module")
def frozen(town: Town, http: requests.Session) -> Iterator[Frozen]:
    """Stop the aggregator in the middle of a training; go on afterwards, and see it through."""
    hyper = {"iterations": 300, "learning_rate": 1.5, "evaluation_interval": 20, "tolerance": 0.999}
    training_id = town.order(hyper_parameters=hyper, participants={"wanted": 4, "minimum": 3})
    *taking_part, late = town.members
    for name in town.members:
        town.members[name].owner.wait_for_status(training_id, "READY")
    town.accept(training_id, *taking_part)
    while town.aggregator.training(training_id)["iteration"] < 2:
        time.sleep(0.02)
    roles = town.aggregator.training(training_id)["roles"]
    names = {member.address: name for name, member in town.members.items()}
    supervisor = town.platform.supervisor
    supervisor.signal("aggregator", signal.SIGSTOP)
    try:
        trainer, validator = names[roles["trainers"][0]], names[roles["validators"][0]]
        for name in taking_part:
            town.members[name].owner.wait_for_status(training_id, "IN_PROGRESS")
        modulus = town.members[trainer].owner.training(training_id)["order"]["modulus"]
        yield Frozen(
            town,
            training_id,
            PublicKey.from_modulus(int(modulus, 16)),
            {"buyer": "buyer", "trainer": trainer, "validator": validator},
            voice(town.platform, "aggregator"),
        )
        answer = http.put(f"{town.members[late].owner.url}/trainings/{training_id}/accept")
        assert "joining" in refused(answer, 409) or "FAILED" in answer.text
    finally:
        supervisor.signal("aggregator", signal.SIGCONT)
    model = town.buyer.wait_finished(training_id)
    assert len(model["model"]["weights"]) == LENGTH
    assert all(town.members[name].owner.wait_for_status(training_id, "FINISHED") for name in taking_part)
    while (trained := town.aggregator.training(training_id))["status"] == "IN_PROGRESS":
        time.sleep(0.05)  # it is told of the buyer's settlement last
    assert trained["status"] == "FINISHED"
    with pytest.raises(flow.TrainingFailed, match="joining was over before this owner had accepted"):
        town.members[late].owner.wait_for_status(training_id, "FINISHED")


Call = tuple[str, str, type[Message]]

MOMENTS: Call = ("POST", "/trainings/{}/moments", MomentsQuestion)
COSIGN_MOMENTS: Call = ("PATCH", "/trainings/{}/moments", MomentsCosignQuestion)
STANDARDISE: Call = ("PUT", "/trainings/{}/moments", Moments)
OPEN_MOMENTS: Call = ("PATCH", "/models/{}/moments", MomentsTotals)
UPDATE: Call = ("PUT", "/trainings/{}", RoundQuestion)
LOCAL: Call = ("POST", "/trainings/{}", LocalModelQuestion)
SCORE: Call = ("POST", "/trainings/{}/metrics", ScoreQuestion)
COSIGN: Call = ("POST", "/trainings/{}/cosign", CosignQuestion)
TELL: Call = ("PUT", "/trainings/{}/metrics", Metric)
NOTIFY_OWNER: Call = ("PATCH", "/trainings/{}", Notice)
REFRESH: Call = ("PATCH", "/models/{}", MaskedRound)
MULTIPLY: Call = ("POST", "/models/{}/mse", MaskedModels)
OPEN: Call = ("PATCH", "/models/{}/mse", Totals)
DELIVER: Call = ("PUT", "/models/{}", Delivery)
NOTIFY_BUYER: Call = ("POST", "/models/{}/notice", Notice)
CIPHERTEXT = 512
BAD_CIPHERTEXTS: Mapping[str, Callable[[PublicKey], int]] = {
    "zero": lambda key: 0,
    "the modulus": lambda key: int(key.n),
    "the modulus squared": lambda key: int(key.n_squared),
    "the largest number": lambda key: (1 << CIPHERTEXT * 8) - 1,
}


def question(frozen: Frozen, call: Call, change: Mapping[str, Any]) -> Json:
    """Return a question that would be answered but for `change`: values, or what makes them of the right ones."""
    one = frozen.key.encode([frozen.key.trivial(1)])
    packed = one * packed_count(LENGTH, frozen.key)
    digest, signature = bytes(32), bytes(SIGNATURE_BYTES)
    right: Mapping[Call, Json] = {
        MOMENTS: {},
        COSIGN_MOMENTS: {"answers": [], "totals": one, "randomisers": bytes(255) + b"\x01"},
        STANDARDISE: {
            "statement": b"none",
            "cosignatures": [signature] * 3,
            "ciphertexts": one,
            "totals": ["1"],
            "randomisers": ["1"],
            "signature": signature,
        },
        OPEN_MOMENTS: {
            "question": digest,
            "trainers": [0, 1, 2],
            "ciphertexts": one,
            "cosignatures": [signature] * 3,
        },
        UPDATE: {"round": 200, "included": [0, 1], "model": frozen.vector},
        LOCAL: {},
        SCORE: {
            "kind": "iteration",
            "round": 120,
            "trainers": [0, 1],
            "masked": frozen.vector,
            "products": one * (LENGTH * (LENGTH + 1) // 2),
            "proof": b"none",
            "masks": bytes(SLOT_BITS // 8 * LENGTH),
        },
        COSIGN: {
            "kind": "zero",
            "round": 0,
            "answers": [{"place": 0, "content": b"none", "signature": signature}],
            "totals": one,
            "randomisers": bytes(255) + b"\x01",
        },
        TELL: {
            "iteration": 20,
            "mse": "1" * 17,
            "statement": b"none",
            "cosignatures": [signature],
            "ciphertexts": one,
            "totals": ["1"],
            "randomisers": ["1"],
        },
        NOTIFY_OWNER: {},
        REFRESH: {"round": 200, "trainers": [0, 1], "packed": packed},
        MULTIPLY: {"kind": "iteration", "round": 120, "trainers": [0, 1], "masked": frozen.vector},
        OPEN: {
            "kind": "zero",
            "round": 0,
            "validators": [0],
            "ciphertexts": one,
            "question": digest,
            "masks": digest,
            "commitments": [],
            "cosignatures": [signature],
        },
        DELIVER: {"model": "trained", "quotients": ["0"] * LENGTH, "salt": digest},
        NOTIFY_BUYER: {},
    }
    body = frozen.message(**right[call])
    return body | {name: value(body[name]) if callable(value) else value for name, value in change.items()}


def without_end(data: bytes) -> bytes:
    return data[:-1]


def twice(data: bytes) -> bytes:
    return data * 2


OTHER = str(uuid.UUID(int=1))
VERSIONS = f"this service speaks protocol version {PROTOCOL_VERSION}, the message is version 99"


@pytest.mark.parametrize(
    ("who", "call", "change", "field", "words"),
    [
        ("trainer", UPDATE, {"version": 99}, "version", VERSIONS),
        ("validator", SCORE, {"version": 99}, "version", VERSIONS),
        ("buyer", REFRESH, {"version": 99}, "version", VERSIONS),
        ("trainer", UPDATE, {"version": None}, "version", "should be a valid integer"),
        ("trainer", UPDATE, {"training": OTHER}, "training", f"the body {OTHER}"),
        ("validator", SCORE, {"training": OTHER}, "training", f"the body {OTHER}"),
        ("buyer", OPEN, {"training": OTHER}, "training", f"the body {OTHER}"),
        ("trainer", UPDATE, {"colour": "red"}, "colour", "is not known here"),
        ("trainer", MOMENTS, {}, "training", "the order has no pre_processing"),
        ("trainer", STANDARDISE, {}, "training", "the order has no pre_processing"),
        ("trainer", STANDARDISE, {"totals": ["0x1"]}, "totals.0", "must be hexadecimal digits"),
        ("buyer", OPEN_MOMENTS, {}, "training", "the order has no pre_processing"),
        ("buyer", OPEN_MOMENTS, {"question": b""}, "question", "at least 32 bytes"),
        ("trainer", UPDATE, {"round": 300}, "round", "the order ends at 299"),
        ("trainer", UPDATE, {"round": -1}, "round", "greater than or equal to 0"),
        ("trainer", UPDATE, {"round": 2**63}, "round", "less than or equal to 10000"),
        ("trainer", UPDATE, {"round": "7"}, "round", "should be a valid integer"),
        ("trainer", UPDATE, {"round": 0}, "model", "the model of round 0 is zero"),
        ("trainer", UPDATE, {"model": without_end}, None, "5631 bytes instead of 11 ciphertexts of 512 bytes"),
        ("trainer", UPDATE, {"model": twice}, None, "11264 bytes instead of 11 ciphertexts of 512 bytes"),
        ("trainer", UPDATE, {"model": b""}, None, "0 bytes instead of 11 ciphertexts of 512 bytes"),
        ("trainer", UPDATE, {"model": 7}, "model", "must be bytes"),
        ("trainer", UPDATE, {"included": [0]}, "included", "at least 2 are needed"),
        ("trainer", UPDATE, {"included": [0, 3]}, "included", "from 0 to 2"),
        ("trainer", UPDATE, {"included": [1, 0]}, "included", "in ascending order"),
        ("validator", COSIGN, {"answers": []}, "answers", "must be of different owners"),
        (
            "validator",
            COSIGN,
            {"answers": [{"place": 1, "content": b"", "signature": b""}]},
            "answers",
            "must be of different owners",
        ),
        ("validator", COSIGN, {"answers": [{"place": 0, "content": b""}]}, "answers.0.signature", "is missing"),
        ("validator", SCORE, {"kind": "all"}, "kind", "should be 'zero', 'iteration' or 'settlement'"),
        ("validator", SCORE, {"round": 121}, "round", "the order evaluates every 20 rounds"),
        ("validator", SCORE, {"trainers": [0, 3]}, "trainers", "must be different places from 0 to 2"),
        ("validator", SCORE, {"trainers": [1, 1]}, "trainers", "must be different places from 0 to 2"),
        ("validator", SCORE, {"trainers": [1]}, "trainers", "at least 2 are needed"),
        ("validator", SCORE, {"contributors": [0]}, "contributors", "must be different places"),
        ("validator", SCORE, {"kind": "settlement", "contributors": list(range(5_000))}, "contributors", "from 0 to 2"),
        ("validator", SCORE, {"masked": without_end}, None, "bytes instead of 11 ciphertexts"),
        ("validator", SCORE, {"products": twice}, None, "bytes instead of 66 ciphertexts"),
        ("validator", SCORE, {"masks": without_end}, "masks", "230 bytes are not 11 masks of 21 bytes"),
        ("buyer", REFRESH, {"round": 299}, "round", "no model follows round 299"),
        ("buyer", REFRESH, {"trainers": [0]}, "trainers", "at least 2 are needed"),
        ("buyer", REFRESH, {"trainers": [1, 0]}, "trainers", "in ascending order"),
        ("buyer", REFRESH, {"trainers": [-1, 0]}, "trainers", "from 0 to 2"),
        ("buyer", REFRESH, {"packed": twice}, None, "bytes instead of 1 ciphertexts"),
        ("buyer", MULTIPLY, {"masked": twice}, None, "bytes instead of 11 ciphertexts"),
        ("buyer", MULTIPLY, {"kind": "zero", "round": 0}, "kind", "the zero model is not masked"),
        ("buyer", MULTIPLY, {"round": 7}, "round", "the order evaluates every 20 rounds"),
        ("buyer", MULTIPLY, {"round": 360}, "round", "must be from 1 to 300"),
        ("buyer", OPEN, {"round": 2}, "round", "at the start, and once more at the end"),
        ("buyer", OPEN, {"validators": [1]}, "validators", "from 0 to 0"),
        ("buyer", OPEN, {"validators": []}, "validators", "at least 1 are needed"),
        ("buyer", OPEN, {"question": bytes(31)}, "question", "at least 32 bytes"),
        ("buyer", DELIVER, {"model": "best"}, "model", "should be 'trained' or 'averaged'"),
        ("buyer", DELIVER, {"quotients": ["xyz"]}, "quotients.0", "must be hexadecimal digits"),
    ],
)
def test_wrong_question_is_refused(
    http: requests.Session,
    frozen: Frozen,
    who: str,
    call: Call,
    change: Mapping[str, Any],
    field: str | None,
    words: str,
) -> None:
    answer = ask(http, frozen, who, call, change)
    assert words in refused(answer, 422, *([field] if field else []))


@pytest.mark.parametrize(
    ("who", "call", "change", "words"),
    [
        ("trainer", SCORE, {}, "this owner trains in this training: it does not validate"),
        ("validator", UPDATE, {}, "this owner validates this training: it does not train"),
        ("validator", LOCAL, {}, "this owner validates this training: it does not train"),
        ("trainer", UPDATE, {"round": 1}, "has already been answered another update 1"),
        ("buyer", REFRESH, {"round": 0}, "has already been answered another refresh 0"),
        ("buyer", OPEN, {}, "has already been answered another open-zero 0"),
        ("buyer", OPEN, {"kind": "iteration", "round": 120}, "has no iteration 120 to open"),
        ("buyer", OPEN, {"kind": "settlement", "round": 300}, "has no settlement 300 to open"),
        ("buyer", DELIVER, {}, "is TRAINING on chain: nothing to deliver now"),
    ],
)
def test_question_at_the_wrong_time_or_place_is_refused(
    http: requests.Session, frozen: Frozen, who: str, call: Call, change: Mapping[str, Any], words: str
) -> None:
    assert words in refused(ask(http, frozen, who, call, change), 409)


def ask(http: requests.Session, frozen: Frozen, who: str, call: Call, change: Mapping[str, Any]) -> requests.Response:
    """Ask a question, and check that the training stands where it stood."""
    method, path, kind = call
    body = question(frozen, call, change)
    with untouched(http, frozen, who):
        return frozen.aggregator.send(http, method, frozen.url(who, path), kind, body)


@contextmanager
def untouched(http: requests.Session, frozen: Frozen, who: str) -> Iterator[None]:
    """Check that a service shows and has of the training what it showed and had before."""
    before = http.get(frozen.url(who, "/models/{}")).json(), frozen.written(who)
    yield
    assert (http.get(frozen.url(who, "/models/{}")).json(), frozen.written(who)) == before


CALLS = [("trainer", UPDATE), ("trainer", LOCAL), ("validator", SCORE), ("validator", COSIGN)] + [
    (who, call)
    for who, calls in {
        "trainer": [TELL, NOTIFY_OWNER, MOMENTS, COSIGN_MOMENTS, STANDARDISE],
        "buyer": [OPEN_MOMENTS, REFRESH, MULTIPLY, OPEN, DELIVER, NOTIFY_BUYER],
    }.items()
    for call in calls
]


@pytest.mark.parametrize(("who", "call"), CALLS)
def test_only_the_aggregator_is_answered(
    town: Town, http: requests.Session, frozen: Frozen, who: str, call: Call
) -> None:
    method, path, kind = call
    url, body = frozen.url(who, path), question(frozen, call, {})
    with untouched(http, frozen, who):
        assert "no header Signature-Input" in refused(send(http, method, url, body), 401)
        for somebody in {OUTSIDER, "buyer", "arbiter", frozen.names["trainer"], frozen.names["validator"]}:
            answer = voice(town.platform, somebody).send(http, method, url, kind, body)
            assert f"is for {town.platform.accounts['aggregator'].address} to ask" in refused(answer, 403)


@pytest.mark.parametrize(("who", "call"), CALLS)
def test_signature_of_another_message_or_another_place_is_refused(
    town: Town, http: requests.Session, frozen: Frozen, who: str, call: Call
) -> None:
    """Whoever that gives, it is not the aggregator: what is recovered from it is an account of nobody."""
    method, path, kind = call
    url, body = frozen.url(who, path), question(frozen, call, {})
    account, here = town.platform.accounts["aggregator"], domain(town.platform)
    signers = {
        "another message": (Signer(account, here), body | {"training": OTHER}),
        "another chain": (Signer(account, Domain(1, here.contract)), body),
        "another contract": (Signer(account, Domain(here.chain_id, account.address)), body),
    }
    with untouched(http, frozen, who):
        for signer, signed in signers.values():
            headers = {"Content-Type": MESSAGEPACK} | Voice(signer).headers(kind, signed)
            answer = http.request(method, url, data=ormsgpack.packb(body), headers=headers, auth=frozen.aggregator.auth)
            refused(answer, 403)


@pytest.mark.parametrize(
    ("who", "call", "field"),
    [("trainer", UPDATE, "model"), ("validator", SCORE, "masked"), ("validator", SCORE, "products")]
    + [("buyer", REFRESH, "packed"), ("buyer", MULTIPLY, "masked")],
)
@pytest.mark.parametrize("number", BAD_CIPHERTEXTS)
def test_number_that_is_no_ciphertext_is_refused(
    http: requests.Session, frozen: Frozen, who: str, call: Call, field: str, number: str
) -> None:
    bad = BAD_CIPHERTEXTS[number](frozen.key).to_bytes(CIPHERTEXT, "big")
    answer = ask(http, frozen, who, call, {field: lambda data: data[:-CIPHERTEXT] + bad})
    assert "ciphertext" in refused(answer, 422)


def test_same_question_gets_the_same_answer_in_both_encodings(http: requests.Session, frozen: Frozen) -> None:
    url = frozen.url("trainer", "/trainings/{}")
    asked = frozen.message(round=0, included=[], model=b"")
    headers = frozen.aggregator.headers(RoundQuestion, asked)
    answers = [frozen.aggregator.send(http, "PUT", url, RoundQuestion, asked) for _ in range(2)]
    answers.append(http.put(url, json=asked | {"model": ""}, headers=headers, auth=frozen.aggregator.auth))
    assert [answer.status_code for answer in answers] == [200] * 3
    assert len({(answer.content, answer.headers[SIGNATURE_HEADER]) for answer in answers}) == 1


GARBAGE_CALLS = [
    *((who, *call) for who, call in CALLS),
    ("trainer", "POST", "/trainings", TrainingRequest),
    ("buyer", "POST", "/models", None),
    ("trainer", "POST", "/datasets", None),
    ("trainer", "POST", "/users", None),
]
SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=20) | st.binary()
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
)
FIELDS = st.sampled_from(
    ["round", "kind", "trainers", "contributors", "validators", "packed", "masked", "products", "masks", "ciphertexts"]
    + ["included", "proof", "salts", "answers", "totals", "randomisers", "statement", "cosignatures", "commitments"]
    + ["question", "salt", "key_proof"]
    + ["model", "quotients", "iteration", "mse", "reason", "version", "training", "order", "name", "x"]
)


@settings(max_examples=150, deadline=None)
@given(
    call=st.sampled_from(GARBAGE_CALLS),
    content_type=st.sampled_from([MESSAGEPACK, MESSAGEPACK, "application/json", "multipart/form-data; boundary=x"]),
    garbage=st.binary(max_size=100) | st.dictionaries(FIELDS, VALUES, max_size=8) | VALUES,
    addressed=st.booleans(),
)
def test_garbage_never_breaks_a_service(
    http: requests.Session,
    frozen: Frozen,
    call: tuple[str, str, str, type[Message] | None],
    content_type: str,
    garbage: Any,
    addressed: bool,
) -> None:
    who, method, path, kind = call
    headers = {"Content-Type": content_type}
    if isinstance(garbage, dict) and addressed:  # so that it comes further than to the first check
        if kind is not None and path.format("") != "/trainings":
            garbage = question(frozen, (method, path, kind), {}) | garbage
            headers |= frozen.aggregator.headers(kind, garbage)
        else:
            garbage = garbage | frozen.message()
    try:
        body = garbage if isinstance(garbage, bytes) else ormsgpack.packb(garbage)
        if content_type == "application/json" and not isinstance(garbage, bytes):
            body = json.dumps(garbage, default=lambda data: data.hex()).encode(errors="replace")
    except (ValueError, TypeError):  # no such body can be sent
        return
    auth = None if kind is None else frozen.aggregator.auth
    answer = http.request(method, frozen.url(who, path), data=body, headers=headers, auth=auth)
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400:
        assert answer.headers["Content-Type"] == "application/problem+json"
