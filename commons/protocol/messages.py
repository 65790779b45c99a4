"""Every body that the services exchange, and the order that all of them agree on.

A message is a pydantic model. On the wire it is MessagePack (``application/msgpack``) or JSON with base64 for bytes;
both decode to the same model. Vectors of ciphertexts are one byte string of fixed-width big-endian integers, decoded
under the training's public key by whoever uses them (:meth:`commons.crypto.paillier.PublicKey.decode`).
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import uuid
from typing import Annotated, Any, Literal, Self

import ormsgpack
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    StrictInt,
    StrictStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from commons.errors import InvalidInput

PROTOCOL_VERSION = 2
MAX_FEATURES = 500
MAX_ITERATIONS = 10_000
MAX_DESCRIPTION_BYTES = 10_000
LARGEST_VALUE, SMALLEST_TARGET = 1e15, 1e-15
"""Bounds of what a column may hold, far from where the squares of floats overflow or vanish."""


class Matching:
    """The rule that a whole text matches a pattern.

    Parameters
    ----------
    pattern : str
        A regular expression that means the same in Python and in JSON Schema.
    reason : str
        What is said, in plain words, to who breaks the rule.
    """

    def __init__(self, pattern: str, reason: str) -> None:
        self._pattern = re.compile(pattern)
        self._reason = reason

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Check after what else the type asks for."""
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Say the rule in documents, too."""
        return {**handler(schema), "pattern": f"^(?:{self._pattern.pattern})$"}

    def _check(self, value: str) -> str:
        if not self._pattern.fullmatch(value):
            raise ValueError(self._reason)
        return value


def _describing(value: Any) -> Any:
    # Free text for people, which travels in both encodings.
    if not isinstance(value, (dict, list, tuple)):
        raise ValueError("must be an object or a list")
    try:
        # MessagePack first: it refuses what is nested too deep for Python's JSON, which would overflow the stack.
        size = max(len(ormsgpack.packb(value)), len(canonical_json(value)))
    except (TypeError, ValueError) as error:
        raise ValueError(f"cannot be sent on: {error}") from None
    if size > MAX_DESCRIPTION_BYTES:
        raise ValueError(f"has {size} bytes, more than {MAX_DESCRIPTION_BYTES}")
    return value


Integer = Annotated[StrictInt, Field(ge=-(2**63), lt=2**63)]
"""An integer that MessagePack has, whatever the encoding it came in."""
Real = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Address = Annotated[
    StrictStr, Matching("0x[0-9a-fA-F]{40}", "must be an Ethereum address: 0x and 40 hexadecimal digits")
]
Hexadecimal = Annotated[StrictStr, Matching("-?[0-9a-f]{1,2000}", "must be hexadecimal digits, at most 2000")]
"""An integer of any size."""
Digits = Annotated[StrictStr, Matching("[0-9]{1,80}", "must be decimal digits, at most 80")]
"""A natural number that 64 bits may not hold: MessagePack has no larger ones."""
Name = Annotated[
    StrictStr,
    Field(min_length=1, max_length=200),
    Matching(r"[^\x00-\x1f\x7f]+", "must not have control characters"),
]
NodeUrl = Annotated[
    StrictStr,
    Field(max_length=500),
    Matching(r"https?://[!-.0-~]+(/[!-~]*)?", "must be a URL that begins with http:// or https://"),
]
"""Of a node of the chain, as whoever runs it gives it: it may have a password or a key in it."""
Url = Annotated[
    StrictStr,
    Field(max_length=500),
    Matching(
        r"""https?://[!-"$-.0->A-~]+(/[!-"$->A-~]*)?""",
        "must be a URL that begins with http:// or https:// and has no user, query or fragment (none of @, ? and #)",
    ),
]
"""Of a service: paths are put behind it, and it is sent to others."""
Description = Annotated[Any, AfterValidator(_describing)]
ModelType = Literal["LINEAR_REGRESSION"]
Round = Annotated[StrictInt, Field(ge=0, le=MAX_ITERATIONS)]


class Body(BaseModel):
    """A JSON object with exactly the fields that are named."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, ser_json_bytes="base64", val_json_bytes="base64", allow_inf_nan=False
    )


def _pair(value: Any) -> Any:
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise ValueError("must be a list of two numbers, the lower and the upper bound")
    return value


def _ordered(bounds: tuple[float, float]) -> tuple[float, float]:
    low, high = bounds
    if low >= high:
        raise ValueError(f"the lower bound {low:g} must be below the upper bound {high:g}")
    return bounds


Bound = Annotated[Real, Field(ge=-LARGEST_VALUE, le=LARGEST_VALUE)]
Range = Annotated[tuple[Bound, Bound], BeforeValidator(_pair), AfterValidator(_ordered)]


class Standardisation(Body):
    """Every feature minus its mean and divided by its standard deviation, over all trainers' rows.

    The sums that this takes are added up encrypted, and opened over three trainers or more.
    """

    method: Literal["standard"]

    @field_validator("method", mode="before")
    @classmethod
    def _known_method(cls, value: Any) -> Any:
        if value != "standard":
            raise ValueError("is unknown: standard is the one there is")
        return value


class Features(Body):
    """The columns that the model reads.

    ``range`` bounds every value of every feature, as it is in the owners' tables; ``pre_processing`` is what owners do
    to the columns before training, which is undone in the delivered model: nothing, or one standardisation.
    """

    list: tuple[Name, ...]
    range: Range
    pre_processing: Annotated[tuple[Standardisation, ...], Field(json_schema_extra={"maxItems": 1})] = ()
    desc: Description = Field(default_factory=dict)

    @field_validator("list")
    @classmethod
    def _distinct(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if not 1 <= len(names) <= MAX_FEATURES:
            raise ValueError(f"must name 1 to {MAX_FEATURES} columns, and names {len(names)}")
        folded = [name.casefold() for name in names]
        twice = sorted({name for name in folded if folded.count(name) > 1})
        if twice:
            raise ValueError(f"named twice: {', '.join(twice)}")
        return names

    @field_validator("pre_processing")
    @classmethod
    def _at_most_one(cls, steps: tuple[Standardisation, ...]) -> tuple[Standardisation, ...]:
        if len(steps) > 1:
            raise ValueError(f"must have at most one step, and has {len(steps)}")
        return steps


class Target(Body):
    """The column that the model predicts, and the bounds of its values."""

    name: Name = "target"
    range: Range
    desc: Description = Field(default_factory=dict)

    @field_validator("range")
    @classmethod
    def _not_all_but_zero(cls, bounds: tuple[float, float]) -> tuple[float, float]:
        if max(abs(bound) for bound in bounds) < SMALLEST_TARGET:
            raise ValueError(f"one bound must be at least {SMALLEST_TARGET:g} away from zero")
        return bounds


class DataRequirements(Body):
    """What a dataset must have to take part."""

    features: Features
    target: Target

    @model_validator(mode="after")
    def _target_is_no_feature(self) -> Self:
        if self.target.name.casefold() in {name.casefold() for name in self.features.list}:
            raise ValueError(f"{self.target.name!r} is both a feature and the target")
        return self


MAX_REACH = 2**15


class HyperParameters(Body):
    """How the model is trained.

    ``learning_rate`` is the step η of gradient descent on the mean squared error's half, ``ridge`` the penalty λ of
    every weight but the intercept, ``tolerance`` the relative change of the MSE between two evaluations under which
    training stops (0: never), ``weighting`` how owners' updates are averaged.
    """

    iterations: Annotated[StrictInt, Field(ge=1, le=MAX_ITERATIONS)] = 100
    local_steps: Annotated[StrictInt, Field(ge=1, le=1_000)] = 1
    learning_rate: Annotated[Real, Field(gt=0, le=1_000)] = 0.1
    ridge: Annotated[Real, Field(ge=0, le=1_000)] = 0.0
    evaluation_interval: Annotated[StrictInt, Field(ge=1, le=MAX_ITERATIONS)] = 5
    tolerance: Annotated[Real, Field(ge=0, lt=1)] = 0.0
    weighting: Literal["rows", "equal"] = "rows"
    key_bits: Literal[2048, 3072] = 2048

    @model_validator(mode="after")
    def _within_headroom(self) -> Self:
        # T rounds of N steps lead no further than T·√(4N) (commons.learning.local_steps.require_stable), which with 200
        # trainers of the largest weight, Σa < 2^24, has to stay below 2^40 (commons.crypto.packing).
        if self.iterations * math.sqrt(self.local_steps) > MAX_REACH:
            raise ValueError(f"iterations × √local_steps must be at most {MAX_REACH}: lower one of them")
        return self


class Participants(Body):
    """How many data owners take part, and the share of them that validate."""

    wanted: Annotated[StrictInt, Field(ge=3, le=200)] = 5
    minimum: Annotated[StrictInt, Field(ge=3, le=200)] = 3
    validator_share: Annotated[Real, Field(ge=0.1, le=0.9)] = 0.3

    @model_validator(mode="after")
    def _minimum_within_wanted(self) -> Self:
        if self.minimum > self.wanted:
            raise ValueError(f"minimum {self.minimum} is above wanted {self.wanted}")
        return self


class Order(Body):
    """What the buyer ordered, the same bytes for everybody: its hash is on chain.

    ``modulus`` is the training's Paillier modulus in hexadecimal, so that nobody can swap the key afterwards.
    """

    model_type: ModelType
    data_requirements: DataRequirements
    hyper_parameters: HyperParameters
    participants: Participants
    modulus: Annotated[StrictStr, Matching("[0-9a-f]{256,2048}", "must be 256 to 2048 hexadecimal digits")]

    @property
    def length(self) -> int:
        """Length d of a model: one weight per feature and the intercept."""
        return len(self.data_requirements.features.list) + 1

    @property
    def standardises(self) -> bool:
        """Whether features are standardised before training."""
        return bool(self.data_requirements.features.pre_processing)

    @property
    def target_scale(self) -> float:
        """The public power of two T that targets are divided by, at least the largest absolute target."""
        mantissa, exponent = math.frexp(max(abs(bound) for bound in self.data_requirements.target.range))
        return math.ldexp(1.0, exponent - (mantissa == 0.5))  # exact, and the same on every machine

    def canonical(self) -> bytes:
        """Return the order as the bytes that are hashed: JSON with sorted keys and no spaces."""
        return canonical_json(self.model_dump(mode="json"))

    def digest(self) -> bytes:
        """Return the SHA-256 of the order, as it is recorded on chain."""
        return hashlib.sha256(self.canonical()).digest()


class Record(Body):
    """What has one canonical encoding as bytes."""

    def pack(self) -> bytes:
        """Encode as MessagePack with sorted keys."""
        return ormsgpack.packb(self.model_dump(mode="python"), option=ormsgpack.OPT_SORT_KEYS)

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """Decode from MessagePack.

        Raises
        ------
        InvalidInput
            The bytes are no MessagePack.
        pydantic.ValidationError
            They are, but of something else.
        """
        try:
            value = ormsgpack.unpackb(data)
        except ormsgpack.MsgpackDecodeError as error:
            raise InvalidInput(f"the body is not MessagePack: {error}") from None
        return cls.model_validate(value)


class Message(Record):
    """A body of a call between two services."""

    version: StrictInt = PROTOCOL_VERSION

    @field_validator("version")
    @classmethod
    def _same_version(cls, version: int) -> int:
        if version != PROTOCOL_VERSION:
            raise ValueError(
                f"this service speaks protocol version {PROTOCOL_VERSION}, the message is version {version}"
            )
        return version


class TrainingMessage(Message):
    """A message about one training."""

    training: uuid.UUID


class Acknowledgement(Message):
    """The peer has taken note."""


class AggregatorDescription(Message):
    """Who the aggregator is, and on which contract of which chain it works."""

    account: Address
    contract: Address
    chain_id: Integer


class OwnerRegistration(Message):
    """A data owner makes itself known to the aggregator."""

    address: Address
    url: Url


class TrainingRequest(TrainingMessage):
    """A paid order, as the buyer tells the aggregator and the aggregator the owners, with the buyer's signature.

    ``key_proof`` (:class:`commons.crypto.proofs.KeyProof`) shows that the order's modulus is a sound one.
    """

    chain_id: Integer
    contract: Address
    buyer: Address
    buyer_url: Url
    aggregator_url: Url
    order: Order
    key_proof: bytes


class Acceptance(TrainingMessage):
    """A data owner says that its acceptance is on chain."""

    address: Address


class Notice(TrainingMessage):
    """Something about the training changed on chain: look there. ``reason`` is for people only."""

    reason: Annotated[StrictStr, Field(max_length=1_000)] | None = None


Places = tuple[Integer, ...]
"""Places in the contract's list of trainers, or of validators."""
Digest = Annotated[bytes, Field(min_length=32, max_length=32)]
"""A SHA-256."""


class Reply(Record):
    """What somebody answered: the content of its message and its signature."""

    place: Integer
    content: bytes
    signature: bytes


class MomentsQuestion(TrainingMessage):
    """Aggregator to trainer, first of all if the order standardises: your rows, and each feature's sum and squares."""


class MomentsCosignQuestion(TrainingMessage):
    """Aggregator to trainer: what trainers answered to :class:`MomentsQuestion`, and the sums that are to be opened.

    ``randomisers`` are the r (fixed width, big-endian) whose n-th powers were multiplied into ``totals``.
    """

    answers: tuple[Reply, ...]
    totals: bytes
    randomisers: bytes


class MomentsStatement(TrainingMessage):
    """What the trainers sign, and the buyer and every owner read: SHA-256 of their question and of the sums.

    ``trainers`` are the places of those whose answers are in the sums.
    """

    question: Digest
    trainers: Places
    totals: Digest


class MomentsTotals(TrainingMessage):
    """Aggregator to buyer: encrypted sums of trainers' moments, to be opened.

    ``cosignatures`` are the trainers' of the :class:`MomentsStatement`, which ``question`` completes.
    """

    question: Digest
    trainers: Places
    ciphertexts: bytes
    cosignatures: tuple[bytes, ...]


class Moments(TrainingMessage):
    """Aggregator to owners: the sums that were opened, by which all standardise, with the evidence.

    ``statement`` (a :class:`MomentsStatement`) is what the trainers signed; ``totals`` and ``randomisers`` open
    ``ciphertexts``, and ``signature`` is the buyer's, of these :class:`Openings` as its answer to
    :class:`MomentsTotals`.
    """

    statement: bytes
    cosignatures: tuple[bytes, ...]
    ciphertexts: bytes
    totals: tuple[Hexadecimal, ...]
    randomisers: tuple[Hexadecimal, ...]
    signature: bytes


class RoundQuestion(TrainingMessage):
    """Aggregator to trainer: the encrypted model of a round, empty in round 0, whose model is zero.

    ``included`` are the places of the trainers whose updates the round before summed: each has it in writing that
    its update arrived.
    """

    round: Round
    included: Places
    model: bytes


class LocalModelQuestion(TrainingMessage):
    """Aggregator to trainer, before the first round: the model that your data alone give, encrypted."""


class Vector(Message):
    """An encrypted vector, or several one after the other."""

    ciphertexts: bytes


class MaskedRound(TrainingMessage):
    """Aggregator to buyer: the masked aggregate of a round, to be divided.

    ``trainers`` are the places, in the contract's list of trainers, of those whose update is in it.
    """

    round: Round
    trainers: Places
    packed: bytes


EvaluationKind = Literal["zero", "iteration", "settlement"]


class MaskedModels(TrainingMessage):
    """Aggregator to buyer: masked models to be multiplied with themselves.

    ``trainers`` are the places of those whose updates the trained model sums; ``contributors``, only at settlement,
    of those whose local models follow it: their weighted sum, then the coalition points.
    """

    kind: EvaluationKind
    round: Round
    trainers: Places
    contributors: Places = ()
    masked: bytes


class Products(Message):
    """Buyer to aggregator: the products û_j·û_k of every masked model.

    ``proof`` (:class:`commons.crypto.proofs.ProductProof`) shows that they are.
    """

    ciphertexts: bytes
    proof: bytes


class ScoreQuestion(TrainingMessage):
    """Aggregator to validator: masked models, their products with the buyer's proof, and their masks.

    ``trainers`` and ``contributors`` fix every vector's scale, as in :class:`MaskedModels`. The zero model needs no
    vectors. Only at settlement, ``salts`` are those of the commitments to what unmasks the two models of which one is
    delivered, and the contributors' signed answers ``local_models`` to ``local_question`` (a packed
    :class:`LocalModelQuestion`) and the ``randomisers`` r show that all models but the trained one are made of them.
    """

    kind: EvaluationKind
    round: Round
    trainers: Places = ()
    contributors: Places = ()
    masked: bytes = b""
    products: bytes = b""
    proof: bytes = b""
    masks: bytes = b""
    salts: bytes = b""
    local_question: bytes = b""
    local_models: tuple[Reply, ...] = ()
    randomisers: bytes = b""


class CosignQuestion(TrainingMessage):
    """Aggregator to validator: what all validators answered, and the sums of it that the buyer is to open.

    ``randomisers`` are the r (fixed width, big-endian) whose n-th powers were multiplied into ``totals``.
    """

    kind: EvaluationKind
    round: Round
    answers: tuple[Reply, ...]
    totals: bytes
    randomisers: bytes


class TotalStatement(TrainingMessage):
    """What every validator of an evaluation signs, and the buyer reads before it opens.

    SHA-256 of the question that the validators were asked and of what is in it, who answered, and the sums.
    ``commitments``, only at settlement, are to what unmasks the trained and the averaged model.
    """

    kind: EvaluationKind
    round: Round
    trainers: Places
    contributors: Places
    question: Digest
    masked: Digest
    products: Digest
    masks: Digest
    validators: Places
    totals: Digest
    commitments: tuple[Digest, ...]


class Cosignature(Message):
    """Validator to aggregator: its signature of the :class:`TotalStatement`."""

    signature: bytes


class Totals(TrainingMessage):
    """Aggregator to buyer: encrypted sums over validators of rows × MSE, to be opened.

    ``validators`` are the places, in the contract's list of validators, of those who answered; ``cosignatures``
    theirs, in that order, of the :class:`TotalStatement`, which ``question``, ``masks`` and ``commitments`` complete.
    """

    kind: EvaluationKind
    round: Round
    validators: Places
    ciphertexts: bytes
    question: Digest
    masks: Digest
    commitments: tuple[Digest, ...]
    cosignatures: tuple[bytes, ...]


class Openings(Message):
    """Buyer to aggregator: what the totals hold and the randomisers that prove it (each as hexadecimal)."""

    totals: tuple[Hexadecimal, ...]
    randomisers: tuple[Hexadecimal, ...]


class Metric(TrainingMessage):
    """Aggregator to owners: an MSE that was opened, in 1e-18 units of the squared scaled target, with the evidence.

    ``statement`` (a :class:`TotalStatement`) is what the validators signed, ``ciphertexts`` all its sums;
    ``totals`` and ``randomisers`` open the first of them: of the zero model and after an iteration there is one, of
    a settlement those of the trained and of the averaged model.
    """

    iteration: Round
    mse: Digits
    statement: bytes
    cosignatures: tuple[bytes, ...]
    ciphertexts: bytes
    totals: tuple[Hexadecimal, ...]
    randomisers: tuple[Hexadecimal, ...]


class Delivery(TrainingMessage):
    """Aggregator to buyer, once the result is on chain: what unmasks the delivered model.

    ``salt`` opens the commitment that the validators signed.
    """

    model: Literal["trained", "averaged"]
    quotients: tuple[Hexadecimal, ...]
    salt: Digest


def canonical_json(value: Any) -> bytes:
    """Encode a JSON value with sorted keys, no spaces and no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False).encode()


REASONS = {
    "missing": "is missing",
    "extra_forbidden": "is not known here: check its name",
    "decimal_type": "must be a number",
    "decimal_parsing": "must be a number",
    "bytes_type": "must be bytes",
    "model_type": "must be an object",
}
"""Plain words for what pydantic says to programmers."""


def problems_of(error: ValidationError) -> list[dict[str, str]]:
    """Return the field and the reason of everything that a pydantic model refused."""
    return [
        {
            "field": ".".join(str(part) for part in item["loc"]) or "body",
            "reason": REASONS.get(item["type"], item["msg"].removeprefix("Value error, ")),
        }
        for item in error.errors(include_url=False, include_input=False, include_context=False)
    ]
