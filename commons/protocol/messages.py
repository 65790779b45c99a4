"""Every body that the services exchange, and the order that all of them agree on.

A message is a pydantic model. On the wire it is MessagePack (``application/msgpack``) or JSON with base64 for bytes;
both decode to the same model. Vectors of ciphertexts are one byte string of fixed-width big-endian integers, decoded
under the training's public key by whoever uses them (:meth:`commons.crypto.paillier.PublicKey.decode`).
"""

from __future__ import annotations

import hashlib
import json
import math
import uuid
from typing import Annotated, Any, Literal, Self

import ormsgpack
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictInt,
    StrictStr,
    ValidationError,
    field_validator,
    model_validator,
)

from commons.errors import InvalidInput

PROTOCOL_VERSION = 1


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError("must be a finite number")
    return value


Real = Annotated[float, Field(strict=True), AfterValidator(_finite)]
Address = Annotated[StrictStr, Field(pattern=r"^0x[0-9a-fA-F]{40}$")]
Hexadecimal = Annotated[StrictStr, Field(pattern=r"^-?[0-9a-f]{1,2000}$")]
"""An integer of any size."""
Name = Annotated[StrictStr, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
Url = Annotated[StrictStr, Field(pattern=r"^https?://[^\s/]+", max_length=500)]
ModelType = Literal["LINEAR_REGRESSION"]
Mse = Annotated[StrictInt, Field(ge=0)]


class Body(BaseModel):
    """A JSON object with exactly the fields that are named."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, ser_json_bytes="base64", val_json_bytes="base64", allow_inf_nan=False
    )


def _ordered(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] >= bounds[1]:
        raise ValueError(f"the lower bound {bounds[0]:g} must be below the upper bound {bounds[1]:g}")
    return bounds


Range = Annotated[tuple[Real, Real], AfterValidator(_ordered)]


class Features(Body):
    """The columns that the model reads.

    ``range`` bounds every value of every feature; ``pre_processing`` is reserved: nothing is supported in it yet.
    """

    list: Annotated[tuple[Name, ...], Field(min_length=1, max_length=500)]
    range: Range
    pre_processing: tuple[dict[str, Any], ...] = ()
    desc: dict[str, Any] | tuple[Any, ...] = Field(default_factory=dict)

    @field_validator("list")
    @classmethod
    def _distinct(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        folded = [name.casefold() for name in names]
        twice = sorted({name for name in folded if folded.count(name) > 1})
        if twice:
            raise ValueError(f"named twice: {', '.join(twice)}")
        return names

    @field_validator("pre_processing")
    @classmethod
    def _none_yet(cls, steps: tuple[dict[str, Any], ...]) -> tuple[dict[str, Any], ...]:
        if steps:
            raise ValueError("pre-processing is not supported yet: send an empty list and scaled features")
        return steps


class Target(Body):
    """The column that the model predicts, and the bounds of its values."""

    name: Name = "target"
    range: Range
    desc: dict[str, Any] | tuple[Any, ...] = Field(default_factory=dict)


class DataRequirements(Body):
    """What a dataset must have to take part."""

    features: Features
    target: Target

    @model_validator(mode="after")
    def _target_is_no_feature(self) -> Self:
        if self.target.name.casefold() in {name.casefold() for name in self.features.list}:
            raise ValueError(f"{self.target.name!r} is both a feature and the target")
        return self


class HyperParameters(Body):
    """How the model is trained.

    ``learning_rate`` is the step η of gradient descent on the mean squared error's half, ``ridge`` the penalty λ of
    every weight but the intercept, ``tolerance`` the relative change of the MSE between two evaluations under which
    training stops (0: never), ``weighting`` how owners' updates are averaged.
    """

    iterations: Annotated[StrictInt, Field(ge=1, le=10_000)] = 100
    local_steps: Annotated[StrictInt, Field(ge=1, le=1_000)] = 1
    learning_rate: Annotated[Real, Field(gt=0, le=1_000)] = 0.1
    ridge: Annotated[Real, Field(ge=0, le=1_000)] = 0.0
    evaluation_interval: Annotated[StrictInt, Field(ge=1, le=10_000)] = 5
    tolerance: Annotated[Real, Field(ge=0, lt=1)] = 0.0
    weighting: Literal["rows", "equal"] = "rows"
    key_bits: Literal[2048, 3072] = 2048


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
    modulus: Annotated[StrictStr, Field(pattern=r"^[0-9a-f]{256,2048}$")]

    @property
    def length(self) -> int:
        """Length d of a model: one weight per feature and the intercept."""
        return len(self.data_requirements.features.list) + 1

    @property
    def target_scale(self) -> float:
        """The public power of two T that targets are divided by, at least the largest absolute target."""
        low, high = self.data_requirements.target.range
        return float(2.0 ** math.ceil(math.log2(max(abs(low), abs(high)))))

    def canonical(self) -> bytes:
        """Return the order as the bytes that are hashed: JSON with sorted keys and no spaces."""
        return canonical_json(self.model_dump(mode="json"))

    def digest(self) -> bytes:
        """Return the SHA-256 of the order, as it is recorded on chain."""
        return hashlib.sha256(self.canonical()).digest()


class Message(Body):
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

    def pack(self) -> bytes:
        """Encode the message as MessagePack."""
        return ormsgpack.packb(self.model_dump(mode="python"), option=ormsgpack.OPT_SORT_KEYS)

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """Decode a message from MessagePack.

        Raises
        ------
        InvalidInput
            The bytes are no MessagePack.
        pydantic.ValidationError
            They are, but not this message.
        """
        try:
            value = ormsgpack.unpackb(data)
        except ormsgpack.MsgpackDecodeError as error:
            raise InvalidInput(f"the body is not MessagePack: {error}") from None
        return cls.model_validate(value)


class TrainingMessage(Message):
    """A message about one training."""

    training: uuid.UUID


class Acknowledgement(Message):
    """The peer has taken note."""


class AggregatorDescription(Message):
    """Who the aggregator is, and on which contract of which chain it works."""

    account: Address
    contract: Address
    chain_id: StrictInt


class OwnerRegistration(Message):
    """A data owner makes itself known to the aggregator."""

    address: Address
    url: Url


class TrainingRequest(TrainingMessage):
    """A paid order, as the buyer tells the aggregator and the aggregator the owners."""

    chain_id: StrictInt
    contract: Address
    buyer: Address
    buyer_url: Url
    aggregator_url: Url
    order: Order


class Acceptance(TrainingMessage):
    """A data owner says that its acceptance is on chain."""

    address: Address


class Notice(TrainingMessage):
    """Something about the training changed on chain: look there. ``reason`` is for people only."""

    reason: Annotated[StrictStr, Field(max_length=1_000)] | None = None


class RoundQuestion(TrainingMessage):
    """Aggregator to trainer: the encrypted model of a round, empty in round 0, whose model is zero."""

    round: Annotated[StrictInt, Field(ge=0)]
    model: bytes


class LocalModelQuestion(TrainingMessage):
    """Aggregator to trainer: the model that your data alone give, encrypted."""


class Vector(Message):
    """An encrypted vector, or several one after the other."""

    ciphertexts: bytes


class MaskedRound(TrainingMessage):
    """Aggregator to buyer: the masked aggregate of a round, to be divided.

    ``trainers`` are the places, in the contract's list of trainers, of those whose update is in it.
    """

    round: Annotated[StrictInt, Field(ge=0)]
    trainers: tuple[StrictInt, ...]
    packed: bytes


EvaluationKind = Literal["zero", "iteration", "settlement"]


class MaskedModels(TrainingMessage):
    """Aggregator to buyer: masked models to be multiplied with themselves.

    ``trainers`` are the places of those whose updates the trained model sums; ``contributors``, only at settlement,
    of those whose local models follow it: their weighted sum, then the coalition points.
    """

    kind: EvaluationKind
    round: Annotated[StrictInt, Field(ge=0)]
    trainers: tuple[StrictInt, ...]
    contributors: tuple[StrictInt, ...] = ()
    packed: bytes


class ScoreQuestion(TrainingMessage):
    """Aggregator to validator: masked models, their products and their masks.

    ``trainers`` and ``contributors`` fix every vector's scale, as in :class:`MaskedModels`. The zero model needs no
    vectors.
    """

    kind: EvaluationKind
    round: Annotated[StrictInt, Field(ge=0)]
    trainers: tuple[StrictInt, ...] = ()
    contributors: tuple[StrictInt, ...] = ()
    masked: bytes = b""
    products: bytes = b""
    masks: bytes = b""


class Totals(TrainingMessage):
    """Aggregator to buyer: encrypted sums over validators of rows × MSE, to be opened.

    ``validators`` are the places, in the contract's list of validators, of those who answered.
    """

    kind: EvaluationKind
    round: Annotated[StrictInt, Field(ge=0)]
    validators: tuple[StrictInt, ...]
    ciphertexts: bytes


class Openings(Message):
    """Buyer to aggregator: what the totals hold and the randomisers that prove it (each as hexadecimal)."""

    totals: tuple[Hexadecimal, ...]
    randomisers: tuple[Hexadecimal, ...]


class Metric(TrainingMessage):
    """Aggregator to owners: an MSE that was opened, in 1e-18 units of the squared scaled target."""

    iteration: Annotated[StrictInt, Field(ge=0)]
    mse: Mse


class Delivery(TrainingMessage):
    """Aggregator to buyer, once the result is on chain: what unmasks the delivered model."""

    model: Literal["trained", "averaged"]
    quotients: tuple[Hexadecimal, ...]


def canonical_json(value: Any) -> bytes:
    """Encode a JSON value with sorted keys, no spaces and no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False).encode()


def problems_of(error: ValidationError) -> list[dict[str, str]]:
    """Return the field and the reason of everything that a pydantic model refused."""
    return [
        {
            "field": ".".join(str(part) for part in item["loc"]) or "body",
            "reason": item["msg"].removeprefix("Value error, "),
        }
        for item in error.errors(include_url=False, include_input=False, include_context=False)
    ]
