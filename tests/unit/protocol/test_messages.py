"""Messages mean the same in both encodings, and the order is the same bytes for everybody."""

from __future__ import annotations

import hashlib
import json
import math
import re
import uuid
from typing import Any

import ormsgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from commons.errors import InvalidInput
from commons.protocol import disputes, messages
from commons.protocol.messages import (
    PROTOCOL_VERSION,
    AggregatorDescription,
    Cosignature,
    CosignQuestion,
    DataRequirements,
    Delivery,
    Features,
    HyperParameters,
    LocalModelQuestion,
    MaskedModels,
    MaskedRound,
    Message,
    Metric,
    Notice,
    Openings,
    Order,
    OwnerRegistration,
    Participants,
    Products,
    Reply,
    RoundQuestion,
    ScoreQuestion,
    Target,
    Totals,
    TotalStatement,
    TrainingRequest,
    Vector,
    canonical_json,
    problems_of,
)
from commons.protocol.transcript import TranscriptRoot

TRAINING = uuid.UUID("7c9e6679-7425-40de-944b-e07fc1f90ae7")
ADDRESS = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
ORDER = Order(
    model_type="LINEAR_REGRESSION",
    data_requirements=DataRequirements(
        features=Features(list=("Größe", "bmi"), range=(-2, 2), desc={"bmi": "kg/m²", "more": [1, None, 0.5]}),
        target=Target(name="y", range=(25, 346)),
    ),
    hyper_parameters=HyperParameters(learning_rate=1.5, iterations=10),
    participants=Participants(),
    modulus="c0ffee" * 86,
)

blobs = st.binary(max_size=40)
rounds = st.integers(0, messages.MAX_ITERATIONS)
places = st.lists(st.integers(0, 200), max_size=5).map(tuple)
digests = st.binary(min_size=32, max_size=32)
many_blobs = st.lists(blobs, max_size=3).map(tuple)
many_digests = st.lists(digests, max_size=2).map(tuple)
hexadecimal = st.integers(-(2**4096), 2**4096).map(lambda number: f"{number:x}")
kinds = st.sampled_from(["zero", "iteration", "settlement"])
reasons = st.none() | st.text(max_size=30).filter(lambda text: text.isprintable())
about = {"training": st.uuids()}
replies = st.lists(st.builds(Reply, place=st.integers(0, 200), content=blobs, signature=blobs), max_size=3).map(tuple)
BY_TYPE: dict[type[Message], dict[str, st.SearchStrategy[Any]]] = {
    messages.Acknowledgement: {},
    AggregatorDescription: {
        "account": st.just(ADDRESS),
        "contract": st.just(ADDRESS),
        "chain_id": st.integers(0, 2**63 - 1),
    },
    OwnerRegistration: {"address": st.just(ADDRESS), "url": st.sampled_from(["http://a", "https://a.example:5000/x"])},
    TrainingRequest: {
        **about,
        "chain_id": st.integers(0, 2**63 - 1),
        "contract": st.just(ADDRESS),
        "buyer": st.just(ADDRESS),
        "buyer_url": st.just("http://buyer"),
        "aggregator_url": st.just("http://aggregator"),
        "order": st.just(ORDER),
        "key_proof": blobs,
    },
    messages.Acceptance: {**about, "address": st.just(ADDRESS)},
    Notice: {**about, "reason": reasons},
    messages.MomentsQuestion: about,
    messages.MomentsCosignQuestion: {**about, "answers": replies, "totals": blobs, "randomisers": blobs},
    messages.MomentsStatement: {**about, "question": digests, "trainers": places, "totals": digests},
    messages.MomentsTotals: {
        **about, "question": digests, "trainers": places, "ciphertexts": blobs, "cosignatures": many_blobs
    },
    messages.Moments: {
        **about, "statement": blobs, "cosignatures": many_blobs, "ciphertexts": blobs,
        "totals": st.lists(hexadecimal).map(tuple), "randomisers": st.lists(hexadecimal).map(tuple),
        "signature": blobs,
    },
    RoundQuestion: {**about, "round": rounds, "included": places, "model": blobs},
    LocalModelQuestion: about,
    Vector: {"ciphertexts": blobs},
    MaskedRound: {**about, "round": rounds, "trainers": places, "packed": blobs},
    MaskedModels: {
        **about, "kind": kinds, "round": rounds, "trainers": places, "contributors": places, "masked": blobs
    },
    Products: {"ciphertexts": blobs, "proof": blobs},
    ScoreQuestion: {
        **about, "kind": kinds, "round": rounds, "trainers": places, "contributors": places,
        "masked": blobs, "products": blobs, "proof": blobs, "masks": blobs, "salts": blobs,
    },
    CosignQuestion: {
        **about, "kind": kinds, "round": rounds, "answers": replies, "totals": blobs, "randomisers": blobs
    },
    TotalStatement: {
        **about, "kind": kinds, "round": rounds, "trainers": places, "contributors": places,
        "question": digests, "masked": digests, "products": digests, "masks": digests,
        "validators": places, "totals": digests, "commitments": many_digests,
    },
    Cosignature: {"signature": blobs},
    Totals: {
        **about, "kind": kinds, "round": rounds, "validators": places, "ciphertexts": blobs, "question": digests,
        "masks": digests, "commitments": many_digests, "cosignatures": many_blobs,
    },
    Openings: {"totals": st.lists(hexadecimal).map(tuple), "randomisers": st.lists(hexadecimal).map(tuple)},
    Metric: {
        **about, "iteration": rounds, "mse": st.integers(0, 2**16 * 10**18).map(str), "statement": blobs,
        "cosignatures": many_blobs, "ciphertexts": blobs,
        "totals": st.lists(hexadecimal).map(tuple), "randomisers": st.lists(hexadecimal).map(tuple),
    },
    Delivery: {
        **about, "model": st.sampled_from(["trained", "averaged"]), "quotients": st.lists(hexadecimal).map(tuple),
        "salt": digests,
    },
    TranscriptRoot: {**about, "root": digests, "entries": st.integers(0, 2**40)},
    disputes.Claim: {
        **about, "disputer": st.just(ADDRESS), "claim": st.text(max_size=20), "reported": st.text(max_size=20),
        "computed": st.text(max_size=20), "copies": digests,
        "exchanges": st.lists(st.tuples(st.text(max_size=9), st.integers(0, 9)), max_size=3).map(tuple),
    },
}  # fmt: skip
ANY = st.one_of([st.builds(kind, **fields) for kind, fields in BY_TYPE.items()])


def descendants(kind: type[Message]) -> set[type[Message]]:
    return {kind, *(found for child in kind.__subclasses__() for found in descendants(child))}


def test_every_message_is_tested() -> None:
    abstract = {Message, messages.TrainingMessage}
    own = {kind for kind in descendants(Message) if kind.__module__.startswith(("commons.", "model_buyer."))}
    assert own - abstract == set(BY_TYPE)


@given(ANY)
def test_message_survives_messagepack(message: Message) -> None:
    packed = message.pack()
    assert type(message).unpack(packed) == message
    assert type(message).unpack(packed).pack() == packed


@given(ANY)
def test_message_survives_json_with_base64(message: Message) -> None:
    assert type(message).model_validate_json(message.model_dump_json()) == message


def test_bytes_are_bytes_in_messagepack_and_base64_in_json() -> None:
    message = Vector(ciphertexts=b"\x00\xff\xfe")
    assert ormsgpack.unpackb(message.pack()) == {"version": PROTOCOL_VERSION, "ciphertexts": b"\x00\xff\xfe"}
    assert json.loads(message.model_dump_json()) == {"version": PROTOCOL_VERSION, "ciphertexts": "AP_-"}


@pytest.mark.parametrize("standard", ["AP/+", "AP_-"])
def test_both_alphabets_of_base64_are_read(standard: str) -> None:
    assert Vector.model_validate_json(f'{{"ciphertexts": "{standard}"}}').ciphertexts == b"\x00\xff\xfe"


@pytest.mark.parametrize("version", [0, PROTOCOL_VERSION + 1, 10**6])
@pytest.mark.parametrize("kind", list(BY_TYPE))
def test_other_version_is_refused_with_both_named(kind: type[Message], version: int) -> None:
    with pytest.raises(ValidationError) as refusal:
        kind.unpack(ormsgpack.packb({"version": version}))
    (problem,) = [found for found in problems_of(refusal.value) if found["field"] == "version"]
    words = f"this service speaks protocol version {PROTOCOL_VERSION}, the message is version {version}"
    assert problem["reason"] == words


@pytest.mark.parametrize("kind", list(BY_TYPE))
def test_further_field_is_refused(kind: type[Message]) -> None:
    with pytest.raises(ValidationError) as refusal:
        kind.unpack(ormsgpack.packb({"colour": "red"}))
    assert {"field": "colour", "reason": "is not known here: check its name"} in problems_of(refusal.value)


@given(st.binary(max_size=60))
def test_garbage_is_refused_as_invalid_input(garbage: bytes) -> None:
    try:
        Notice.unpack(garbage)
    except (InvalidInput, ValidationError):
        return
    raise AssertionError("garbage is no notice")


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(),
    st.text(max_size=9),
    st.binary(max_size=9),
    st.sampled_from([str(TRAINING), ADDRESS, "zero", "trained", "http://localhost:1", "LINEAR_REGRESSION"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=12,
)

JSON = st.recursive(
    SCALARS.filter(lambda value: not isinstance(value, bytes)) | st.integers(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=12,
)


def decoded_or_refused(kind: type[Message], data: bytes) -> None:
    """Decode, and have a message that is packed again or an error that every service answers in a problem document."""
    try:
        message = kind.unpack(data)
    except (InvalidInput, ValidationError):
        return
    assert kind.unpack(message.pack()) == message


@given(st.data())
def test_values_of_the_wrong_kind_are_refused_as_invalid_input(data: st.DataObject) -> None:
    """What is a message but for some fields, which are anything that MessagePack has."""
    message = data.draw(ANY)
    fields = ormsgpack.unpackb(message.pack())
    for name in data.draw(st.lists(st.sampled_from([*fields, "colour"]), max_size=3)):
        fields[name] = data.draw(VALUES)
    decoded_or_refused(type(message), ormsgpack.packb(fields))


@given(st.data())
def test_spoiled_bytes_are_refused_as_invalid_input(data: st.DataObject) -> None:
    message = data.draw(ANY)
    packed = message.pack()
    place = data.draw(st.integers(0, len(packed)))
    noise, lost = data.draw(st.binary(max_size=9)), data.draw(st.integers(0, 9))
    decoded_or_refused(type(message), packed[:place] + noise + packed[place + lost :])


@pytest.mark.parametrize("depth", [100, 250, 400, 600, 800, 900, 950, 1000, 1023, 1024, 10**5])
def test_nesting_is_sent_or_refused_however_deep(depth: int) -> None:
    request = TrainingRequest(
        training=TRAINING,
        chain_id=1,
        contract=ADDRESS,
        buyer=ADDRESS,
        buyer_url="http://buyer",
        aggregator_url="http://aggregator",
        order=ORDER,
        key_proof=b"",
    )
    fields = ormsgpack.unpackb(request.pack())
    fields["order"]["data_requirements"]["target"]["desc"] = "here"
    before, after = ormsgpack.packb(fields).split(ormsgpack.packb("here"))
    decoded_or_refused(TrainingRequest, before + b"\x91" * depth + b"\x90" + after)


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 2**64, 10**30])
def test_integers_that_messagepack_does_not_have_are_refused_in_json(number: int) -> None:
    places = RoundQuestion(training=TRAINING, round=1, included=(3,), model=b"").model_dump_json()
    description = AggregatorDescription(account=ADDRESS, contract=ADDRESS, chain_id=3).model_dump_json()
    for kind, body in ((RoundQuestion, places), (AggregatorDescription, description)):
        assert kind.model_validate_json(body).pack()
        with pytest.raises(ValidationError):
            kind.model_validate_json(re.sub(r"\b3\b(?=[],}])", str(number), body))


@given(st.data())
def test_json_of_any_kind_is_a_message_or_refused(data: st.DataObject) -> None:
    message = data.draw(ANY)
    fields = message.model_dump(mode="json")
    for name in data.draw(st.lists(st.sampled_from([*fields, "colour"]), max_size=3)):
        fields[name] = data.draw(JSON)
    try:
        read = type(message).model_validate_json(json.dumps(fields))
    except ValidationError:
        return
    assert type(message).unpack(read.pack()) == read


METRIC = Metric(
    training=TRAINING,
    iteration=1,
    mse="7",
    statement=b"",
    cosignatures=(),
    ciphertexts=b"",
    totals=(),
    randomisers=(),
)


@pytest.mark.parametrize("mse", ["", "-1", "1.5", "1e3", "0x1", "9" * 81, 7, None])
def test_metric_is_decimal_digits(mse: Any) -> None:
    with pytest.raises(ValidationError, match="mse"):
        Metric.model_validate({**METRIC.model_dump(), "mse": mse})


def test_metric_beyond_64_bits_can_be_sent() -> None:
    metric = METRIC.model_copy(update={"mse": str(2**16 * 10**18)})
    assert Metric.unpack(metric.pack()) == metric


@pytest.mark.parametrize("length", [0, 31, 33])
def test_digest_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(ValidationError, match="root"):
        TranscriptRoot(training=TRAINING, root=bytes(length), entries=1)


@pytest.mark.parametrize(
    ("steps", "field", "reason"),
    [
        (["scale"], "pre_processing.0", "must be an object"),
        ([{"name": "scale"}], "pre_processing.0.method", "is missing"),
        ([{"method": "minmax"}], "pre_processing.0.method", "is unknown: standard is the one there is"),
        ([{"method": "standard", "ddof": 1}], "pre_processing.0.ddof", "is not known here: check its name"),
        ([{"method": "standard"}] * 2, "pre_processing", "must have at most one step, and has 2"),
        ({"method": "standard"}, "pre_processing", "Input should be a valid tuple"),
    ],
)
def test_pre_processing_is_nothing_or_one_standardisation(steps: object, field: str, reason: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        messages.Features.model_validate({"list": ["age"], "range": [-2, 2], "pre_processing": steps})
    assert {"field": field, "reason": reason} in problems_of(refusal.value)


def test_order_says_that_it_standardises() -> None:
    document = json.loads(ORDER.canonical())
    document["data_requirements"]["features"]["pre_processing"] = [{"method": "standard"}]
    order = messages.Order.model_validate_json(json.dumps(document))
    assert order.standardises and not ORDER.standardises
    assert b'"pre_processing":[{"method":"standard"}]' in order.canonical()


def test_canonical_order_is_sorted_json_without_spaces() -> None:
    assert ORDER.canonical().decode() == (
        '{"data_requirements":{"features":{"desc":{"bmi":"kg/m²","more":[1,null,0.5]},"list":["Größe","bmi"],'
        '"pre_processing":[],"range":[-2.0,2.0]},"target":{"desc":{},"name":"y","range":[25.0,346.0]}},'
        '"hyper_parameters":{"evaluation_interval":5,"iterations":10,"key_bits":2048,"learning_rate":1.5,'
        '"local_steps":1,"ridge":0.0,"tolerance":0.0,"weighting":"rows"},"model_type":"LINEAR_REGRESSION",'
        f'"modulus":"{"c0ffee" * 86}","participants":{{"minimum":3,"validator_share":0.3,"wanted":5}}}}'
    )


def test_digest_of_the_order_is_what_was_ever_written_on_chain() -> None:
    assert ORDER.digest() == hashlib.sha256(ORDER.canonical()).digest()
    assert ORDER.digest().hex() == "dcf497abfb1b28259e920922a87b26591608fa5cadd14bd234384e6a02c19782"


def test_order_reads_back_to_the_same_digest() -> None:
    request = TrainingRequest(
        training=TRAINING,
        chain_id=31337,
        contract=ADDRESS,
        buyer=ADDRESS,
        buyer_url="http://buyer",
        aggregator_url="http://aggregator",
        order=ORDER,
        key_proof=b"proof",
    )
    for read in (
        Order.model_validate_json(ORDER.canonical()),
        TrainingRequest.unpack(request.pack()).order,
        TrainingRequest.model_validate_json(request.model_dump_json()).order,
    ):
        assert read == ORDER
        assert read.digest() == ORDER.digest()


@pytest.mark.parametrize(
    "change",
    [
        {"modulus": "c0ffef" * 86},
        {"participants": Participants(wanted=6)},
        {"hyper_parameters": HyperParameters(learning_rate=1.5000000000000002, iterations=10)},
    ],
)
def test_any_change_of_the_order_changes_its_digest(change: dict[str, Any]) -> None:
    assert ORDER.model_copy(update=change).digest() != ORDER.digest()


def test_length_counts_the_intercept() -> None:
    assert ORDER.length == 3


@pytest.mark.parametrize(
    ("bounds", "scale"),
    [
        ((25, 346), 512),
        ((0, 512), 512),
        ((0, math.nextafter(512, math.inf)), 1024),
        ((-512.5, 3), 1024),
        ((-1, 0), 1),
        ((0, 0.25), 0.25),
        ((0, 0.3), 0.5),
        ((0, 1e15), 2.0**50),
        ((0, 1e-15), 2.0**-49),
    ],
)
def test_target_scale_is_the_next_power_of_two(bounds: tuple[float, float], scale: float) -> None:
    requirements = ORDER.data_requirements.model_copy(update={"target": Target(range=bounds)})
    assert ORDER.model_copy(update={"data_requirements": requirements}).target_scale == scale


@given(st.floats(1e-15, 1e15))
def test_scaled_targets_are_at_most_one_and_more_than_a_half(largest: float) -> None:
    requirements = ORDER.data_requirements.model_copy(update={"target": Target(range=(-largest, largest / 2))})
    scale = ORDER.model_copy(update={"data_requirements": requirements}).target_scale
    assert 0.5 < largest / scale <= 1
    assert math.frexp(scale)[0] == 0.5


def test_canonical_json_has_no_nan() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"x": math.nan})


def test_order_is_refused_beyond_the_headroom_of_the_masks() -> None:
    HyperParameters(iterations=10_000, local_steps=10)
    with pytest.raises(ValidationError, match="iterations × √local_steps must be at most"):
        HyperParameters(iterations=10_000, local_steps=11)


def test_orders_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        ORDER.modulus = "00"
