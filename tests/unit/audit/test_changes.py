"""Whatever is changed in a transcript of a real training is found, and whoever changed it is named."""

from __future__ import annotations

import io
import random
import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from commons.audit import Report
from commons.audit.onchain import Facts, compare
from commons.protocol.messages import Message
from commons.protocol.transcript import InvalidTranscript, TranscriptRoot, read
from tests.unit.audit.parties import AGGREGATOR, BUYER, Change, Story, Telling, TrainingRequest, audited

SEED = 20190501
RESIGNED, UNSIGNED, RAW = 320, 120, 60
"""500 changes: signed again by who said it, put in by the aggregator without a signature, and of the file's bytes."""

NO_CLAIM = {("buyer_url",), ("aggregator_url",)}
"""Of a signed request: where the services were. Who signs the request may write there what it likes."""

KINDS = ("zero", "iteration", "settlement")

Leaf = tuple[str | int, ...]


def leaves(value: Any, where: Leaf = ()) -> Iterator[tuple[Leaf, Any]]:
    """Yield every simple value in nested models and tuples, and tuples that can be shortened."""
    if isinstance(value, BaseModel):
        for name, item in value:
            yield from leaves(item, (*where, name))
    elif isinstance(value, tuple):
        if value:
            yield where, value
        for place, item in enumerate(value):
            yield from leaves(item, (*where, place))
    elif isinstance(value, (bytes, int, float, str, uuid.UUID)):
        yield where, value


def another(value: Any, choice: random.Random) -> Any:
    """Return another value of that type."""
    match value:
        case str() if value in KINDS:
            return choice.choice([kind for kind in KINDS if kind != value])
        case tuple():
            gone = choice.randrange(len(value))
            return value[:gone] + value[gone + 1 :]
        case bytes() if not value:
            return b"\x01"
        case bytes():
            place = choice.randrange(len(value))
            return value[:place] + bytes([value[place] ^ 1 << choice.randrange(8)]) + value[place + 1 :]
        case bool():
            return not value
        case int():
            return value + choice.choice((1, -1)) if value > 0 else value + 1
        case float():
            return value / 2 if value else 0.5
        case uuid.UUID():
            return uuid.UUID(int=value.int ^ 1 << choice.randrange(128))
        case str():
            place = choice.randrange(len(value) - min(len(value), 8), len(value))
            return value[:place] + ("1" if value[place] != "1" else "2") + value[place + 1 :]
    raise AssertionError(value)


def found_out(file: bytes, facts: Facts) -> Report | None:
    """Return the full audit of a file; None if it is not even read."""
    try:
        transcript = read(io.BytesIO(file))
    except InvalidTranscript:
        return None
    # Who changes a transcript that it reports would report its root: that alone is not to give it away.
    assert facts.reported is not None
    root = TranscriptRoot.unpack(transcript.root.content).root
    return compare(
        transcript,
        audited(file),
        replace(facts, reported=replace(facts.reported, transcript_root=root)),
        TrainingRequest,
    )


def is_valid(message: Message) -> bool:
    """Say whether a message can be read by who receives it."""
    try:
        return type(message).unpack(message.pack()).pack() == message.pack()
    except ValidationError:
        return False


@pytest.fixture(scope="module")
def honest(story: Story) -> Telling:
    telling = Telling(story, None)
    telling.file()
    return telling


def roles(telling: Telling, name: str, what: Leaf, valid: bool) -> set[str]:
    """Return who may be named when what was said under that name is changed and signed again by who said it."""
    who, message = telling.said[name]
    if who == AGGREGATOR:
        return {"aggregator"}
    if name == "request":
        if not valid:
            return {"aggregator"}  # which should not have taken it
        # What names the chain or the signer makes the signature another's, which the aggregator should not have taken.
        return {"aggregator"} if what[0] in ("chain_id", "contract", "buyer") else {"buyer"}
    own = "buyer" if who == BUYER else name.split()[0].partition("-")[0]
    if own != "buyer":
        place = name.rpartition(" ")[2]
        own = f"validator {place}" if own in ("score", "total") else f"trainer {place}"
    if what == ("ciphertexts",) and not name.startswith("mask-"):
        # Another ciphertext is another answer, as good as the first, and then it is not in the aggregator's sum; and
        # bytes that are no ciphertext are the fault of who signed them.
        return {"aggregator", own}
    return {own}


def test_500_changes_are_found_and_named(story: Story, file: bytes, honest: Telling, honest_facts: Facts) -> None:
    choice = random.Random(SEED)
    messages = {name: list(leaves(message)) for name, (_, message) in honest.said.items()}
    records = {name: list(leaves(record)) for name, record in honest.records.items()}
    kept = set()
    counts = dict.fromkeys(("resigned", "unsigned", "raw"), 0)
    while counts["resigned"] < RESIGNED:
        name = choice.choice(sorted(messages))
        what, value = choice.choice(messages[name])
        if name == "request" and what in NO_CLAIM:
            continue
        new = another(value, choice)
        change = Change(name, what, lambda _, new=new: new)
        report = found_out(story.tell(change), honest_facts)
        if report is None:
            assert name == "root", f"{name} {what} made the file unreadable"
        else:
            assert report.first is not None, f"{name} {what}: {value!r} became {new!r}, and nobody saw it"
            expected = roles(honest, name, what, is_valid(change(honest.said[name][1])))
            assert report.first.party.role in expected, f"{name} {what}: {report.first}"
        kept.add((name.split()[0], what[0]))
        counts["resigned"] += 1
    while counts["unsigned"] < UNSIGNED:
        name = choice.choice(sorted(records))
        what, value = choice.choice(records[name])
        new = another(value, choice)
        report = found_out(story.tell(Change(name, what, lambda _, new=new: new)), honest_facts)
        assert report is not None
        assert report.first is not None, f"{name} {what}: {value!r} became {new!r}, and nobody saw it"
        assert report.first.party.role == "aggregator", f"{name} {what}: {report.first}"
        counts["unsigned"] += 1
    while counts["raw"] < RAW:
        place = choice.randrange(len(file))
        changed = file[:place] + bytes([file[place] ^ 1 << choice.randrange(8)]) + file[place + 1 :]
        report = found_out(changed, honest_facts)
        assert report is None or report.first is not None, f"byte {place}"
        counts["raw"] += 1
    assert sum(counts.values()) == 500
    assert len(kept) > 60, "the changes are of all kinds of messages"


@pytest.mark.parametrize("what", sorted(NO_CLAIM))
def test_what_carries_no_claim_may_be_said_otherwise(story: Story, honest_facts: Facts, what: Leaf) -> None:
    report = found_out(story.tell(Change("request", what, lambda _: "http://elsewhere:1")), honest_facts)
    assert report is not None and report.passed
