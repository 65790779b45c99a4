"""Questions between services that the protocol has not: refused in plain words, and the training goes on.

The training that they are about stands still meanwhile, in the middle of its rounds: its aggregator is stopped.
"""

from __future__ import annotations

import json
import signal
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import ormsgpack
import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st

from commons.crypto.packing import SLOT_BITS
from commons.crypto.paillier import PublicKey
from commons.http.bodies import MESSAGEPACK
from commons.protocol.messages import PROTOCOL_VERSION
from commons.protocol.outcome import packed_count
from scripts.local import diabetes, flow
from tests.integration.conftest import Town
from tests.integration.refusals import GONE, Json, refused, send, session, unchanged, with_value

LENGTH = len(diabetes.FEATURES) + 1


@pytest.fixture(scope="module")
def http() -> Iterator[requests.Session]:
    with session() as made:
        yield made


def test_order_that_is_not_on_chain_is_refused(town: Town, http: requests.Session) -> None:
    for service, path in (("aggregator", "/model"), ("owner-1", "/trainings")):
        with unchanged(town, service) as url:
            request = training_request(town)
            answer = send(http, "POST", url + path, request)
            assert f"training {request['training']} is not on chain" in refused(answer, 409)


def test_order_that_the_chain_knows_otherwise_is_refused(town: Town, http: requests.Session) -> None:
    known = town.order(terms={"join_seconds": 1})
    with pytest.raises(flow.TrainingFailed, match="is CANCELLED"):
        town.buyer.wait_finished(known)
    for service, path in (("aggregator", "/model"), ("owner-1", "/trainings")):
        with unchanged(town, service) as url:
            answer = send(http, "POST", url + path, training_request(town, training=known))
            assert "the chain says" in refused(answer, 409)


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        ("version", PROTOCOL_VERSION + 1, "version"),
        ("training", "me", "training"),
        ("chain_id", "31337", "chain_id"),
        ("buyer", "0x12", "buyer"),
        ("buyer_url", "ftp://x", "buyer_url"),
        ("buyer_url", "http://a b", "buyer_url"),
        ("aggregator_url", "http://x/\0", "aggregator_url"),
        ("order.modulus", "xyz", "order.modulus"),
        ("order.modulus", 7, "order.modulus"),
        ("order.hyper_parameters.iterations", -1, "order.hyper_parameters.iterations"),
        ("order", GONE, "order"),
        ("extra", 1, "extra"),
    ],
)
def test_bad_request_for_a_training_is_refused(
    town: Town, http: requests.Session, path: str, value: Any, field: str
) -> None:
    for service, route in (("aggregator", "/model"), ("owner-1", "/trainings")):
        body = with_value(training_request(town), path, value)
        refused(send(http, "POST", town.platform.urls[service] + route, body), 422, field)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"address": "0x12"}, "address"),
        ({"address": "owner"}, "address"),
        ({"url": "owner"}, "url"),
        ({"url": "http://"}, "url"),
        ({"url": "http://x\0"}, "url"),
        ({"url": "http://x/" + "y" * 500}, "url"),
        ({"version": 0}, "version"),
    ],
)
def test_bad_registration_is_refused(town: Town, http: requests.Session, change: Json, field: str) -> None:
    body = {"version": PROTOCOL_VERSION, "address": "0x" + "12" * 20, "url": "http://127.0.0.1:1"}
    with unchanged(town, "aggregator") as url:
        refused(http.post(f"{url}/dataowner", json=body | change), 422, field)


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
        **change,
    }


@dataclass(frozen=True)
class Frozen:
    """A training that stands still, since its aggregator is stopped, in the middle of its rounds."""

    id: str
    key: PublicKey
    buyer: str
    trainer: str
    validator: str

    @property
    def vector(self) -> bytes:
        """A model of the right form."""
        return self.key.encode([self.key.trivial(0)] * LENGTH)

    def url(self, who: str, path: str) -> str:
        return {"buyer": self.buyer, "trainer": self.trainer, "validator": self.validator}[who] + path.format(self.id)

    def message(self, **fields: Any) -> Json:
        return {"version": PROTOCOL_VERSION, "training": self.id, **fields}


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
    urls = {member.address: member.owner.url for member in town.members.values()}
    supervisor = town.platform.supervisor
    supervisor.signal("aggregator", signal.SIGSTOP)
    try:
        trainer, validator = urls[roles["trainers"][0]], urls[roles["validators"][0]]
        for name in taking_part:
            town.members[name].owner.wait_for_status(training_id, "IN_PROGRESS")
        modulus = flow.Owner(trainer).training(training_id)["order"]["modulus"]
        yield Frozen(
            training_id, PublicKey.from_modulus(int(modulus, 16)), town.platform.urls["buyer"], trainer, validator
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


UPDATE, LOCAL, SCORE = ("PUT", "/trainings/{}"), ("POST", "/trainings/{}"), ("POST", "/trainings/{}/metrics")
REFRESH, MULTIPLY, OPEN, DELIVER = (
    ("PATCH", "/models/{}"),
    ("POST", "/models/{}/mse"),
    ("PATCH", "/models/{}/mse"),
    ("PUT", "/models/{}"),
)
CIPHERTEXT = 512
BAD_CIPHERTEXTS: Mapping[str, Callable[[PublicKey], int]] = {
    "zero": lambda key: 0,
    "the modulus": lambda key: int(key.n),
    "the modulus squared": lambda key: int(key.n_squared),
    "the largest number": lambda key: (1 << CIPHERTEXT * 8) - 1,
}


def question(frozen: Frozen, call: tuple[str, str], change: Mapping[str, Any]) -> Json:
    """Return a question that would be answered but for `change`: values, or what makes them of the right ones."""
    one = frozen.key.encode([frozen.key.trivial(1)])
    packed = one * packed_count(LENGTH, frozen.key)
    right: Mapping[tuple[str, str], Json] = {
        UPDATE: {"round": 200, "model": frozen.vector},
        LOCAL: {},
        SCORE: {
            "kind": "iteration",
            "round": 120,
            "trainers": [0, 1],
            "masked": frozen.vector,
            "products": one * (LENGTH * (LENGTH + 1) // 2),
            "masks": bytes(SLOT_BITS // 8 * LENGTH),
        },
        REFRESH: {"round": 200, "trainers": [0, 1], "packed": packed},
        MULTIPLY: {"kind": "iteration", "round": 120, "trainers": [0, 1], "packed": packed},
        OPEN: {"kind": "zero", "round": 0, "validators": [0], "ciphertexts": one},
        DELIVER: {"model": "trained", "quotients": ["0"] * LENGTH},
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
        ("trainer", UPDATE, {"round": 300}, "round", "the order ends at 299"),
        ("trainer", UPDATE, {"round": -1}, "round", "greater than or equal to 0"),
        ("trainer", UPDATE, {"round": 2**63}, "round", "less than or equal to 10000"),
        ("trainer", UPDATE, {"round": "7"}, "round", "should be a valid integer"),
        ("trainer", UPDATE, {"round": 0}, "model", "the model of round 0 is zero"),
        ("trainer", UPDATE, {"model": without_end}, None, "5631 bytes instead of 11 ciphertexts of 512 bytes"),
        ("trainer", UPDATE, {"model": twice}, None, "11264 bytes instead of 11 ciphertexts of 512 bytes"),
        ("trainer", UPDATE, {"model": b""}, None, "0 bytes instead of 11 ciphertexts of 512 bytes"),
        ("trainer", UPDATE, {"model": 7}, "model", "must be bytes"),
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
        ("buyer", MULTIPLY, {"kind": "zero", "round": 0}, "kind", "the zero model is not masked"),
        ("buyer", MULTIPLY, {"round": 7}, "round", "the order evaluates every 20 rounds"),
        ("buyer", MULTIPLY, {"round": 360}, "round", "must be from 1 to 300"),
        ("buyer", OPEN, {"round": 2}, "round", "at the start, and once more at the end"),
        ("buyer", OPEN, {"validators": [1]}, "validators", "from 0 to 0"),
        ("buyer", OPEN, {"validators": []}, "validators", "at least 1 are needed"),
        ("buyer", DELIVER, {"model": "best"}, "model", "should be 'trained' or 'averaged'"),
        ("buyer", DELIVER, {"quotients": ["xyz"]}, "quotients.0", "must be hexadecimal digits"),
    ],
)
def test_wrong_question_is_refused(
    http: requests.Session,
    frozen: Frozen,
    who: str,
    call: tuple[str, str],
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
    http: requests.Session, frozen: Frozen, who: str, call: tuple[str, str], change: Mapping[str, Any], words: str
) -> None:
    assert words in refused(ask(http, frozen, who, call, change), 409)


def ask(
    http: requests.Session, frozen: Frozen, who: str, call: tuple[str, str], change: Mapping[str, Any]
) -> requests.Response:
    """Ask a question, and check that the training stands where it stood."""
    method, path = call
    before = http.get(frozen.url(who, "/models/{}")).json()
    answer = send(http, method, frozen.url(who, path), question(frozen, call, change))
    assert http.get(frozen.url(who, "/models/{}")).json() == before
    return answer


@pytest.mark.parametrize(
    ("who", "call", "field"),
    [("trainer", UPDATE, "model"), ("validator", SCORE, "masked"), ("validator", SCORE, "products")]
    + [("buyer", REFRESH, "packed"), ("buyer", MULTIPLY, "packed")],
)
@pytest.mark.parametrize("number", BAD_CIPHERTEXTS)
def test_number_that_is_no_ciphertext_is_refused(
    http: requests.Session, frozen: Frozen, who: str, call: tuple[str, str], field: str, number: str
) -> None:
    bad = BAD_CIPHERTEXTS[number](frozen.key).to_bytes(CIPHERTEXT, "big")
    answer = ask(http, frozen, who, call, {field: lambda data: data[:-CIPHERTEXT] + bad})
    assert "ciphertext" in refused(answer, 422)


def test_same_question_gets_the_same_answer_in_both_encodings(http: requests.Session, frozen: Frozen) -> None:
    url = frozen.url("trainer", "/trainings/{}")
    asked = frozen.message(round=0, model=b"")
    answers = [send(http, "PUT", url, asked), send(http, "PUT", url, asked), http.put(url, json=asked | {"model": ""})]
    assert [answer.status_code for answer in answers] == [200] * 3
    assert len({answer.content for answer in answers}) == 1


GARBAGE_CALLS = [
    ("trainer", *UPDATE),
    ("trainer", *LOCAL),
    ("validator", *SCORE),
    ("validator", "PUT", "/trainings/{}/metrics"),
    ("validator", "PATCH", "/trainings/{}"),
    ("trainer", "POST", "/trainings"),
    ("buyer", *REFRESH),
    ("buyer", *MULTIPLY),
    ("buyer", *OPEN),
    ("buyer", *DELIVER),
    ("buyer", "POST", "/models/{}/notice"),
    ("buyer", "POST", "/models"),
    ("trainer", "POST", "/datasets"),
    ("trainer", "POST", "/users"),
]
SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=20) | st.binary()
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
)
FIELDS = st.sampled_from(
    ["round", "kind", "trainers", "contributors", "validators", "packed", "masked", "products", "masks", "ciphertexts"]
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
    http: requests.Session, frozen: Frozen, call: tuple[str, str, str], content_type: str, garbage: Any, addressed: bool
) -> None:
    who, method, path = call
    if isinstance(garbage, dict) and addressed:  # so that it comes further than to the first check
        garbage = {"model": b"x", "packed": b"x", "ciphertexts": b"x", "mse": "x"} | garbage | frozen.message()
    try:
        body = garbage if isinstance(garbage, bytes) else ormsgpack.packb(garbage)
        if content_type == "application/json" and not isinstance(garbage, bytes):
            body = json.dumps(garbage, default=lambda data: data.hex()).encode(errors="replace")
    except (ValueError, TypeError):  # no such body can be sent
        return
    answer = http.request(method, frozen.url(who, path), data=body, headers={"Content-Type": content_type})
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400:
        assert answer.headers["Content-Type"] == "application/problem+json"
