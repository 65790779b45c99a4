"""Signed messages: nothing can be taken out of what it was said about."""

from __future__ import annotations

import uuid

import ormsgpack
import pytest
from eth_account import Account

from commons.crypto.signatures import InvalidSignature, sign
from commons.errors import VerificationFailed
from commons.protocol.messages import (
    Acknowledgement,
    Cosignature,
    LocalModelQuestion,
    Message,
    Notice,
    RoundQuestion,
    Vector,
)
from commons.protocol.signed import Domain, Signed, Signer, proof_context

CONTRACT = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
DOMAIN = Domain(31337, CONTRACT)
TRAINING = uuid.UUID(int=7)
SIGNER = Signer(Account.from_key(b"\x07" * 32), DOMAIN)
QUESTION = SIGNER.sign(RoundQuestion(training=TRAINING, round=0, included=(), model=b""))
OTHER_QUESTION = SIGNER.sign(RoundQuestion(training=TRAINING, round=1, included=(), model=b""))
ANSWER = Vector(ciphertexts=b"c")


def test_what_was_signed_is_read_back() -> None:
    signed = SIGNER.sign(ANSWER, QUESTION)
    assert signed.verified(Vector, DOMAIN, SIGNER.address, QUESTION) == ANSWER
    assert signed.verified(Vector, DOMAIN, SIGNER.address.lower(), QUESTION) == ANSWER
    assert Signed.unpack(signed.pack()) == signed


def test_signing_again_gives_the_same_bytes() -> None:
    assert SIGNER.sign(ANSWER, QUESTION).pack() == SIGNER.sign(ANSWER, QUESTION).pack()


@pytest.mark.parametrize(
    ("domain", "question"),
    [
        (DOMAIN, OTHER_QUESTION),
        (DOMAIN, None),
        (Domain(1, CONTRACT), QUESTION),
        (Domain(31337, "0x" + "1" * 40), QUESTION),
    ],
    ids=["another question", "no question", "another chain", "another contract"],
)
def test_an_answer_counts_for_its_question_on_its_contract_only(domain: Domain, question: Signed | None) -> None:
    signed = SIGNER.sign(ANSWER, QUESTION)
    with pytest.raises(InvalidSignature, match=f"a Vector of {SIGNER.address} was claimed"):
        signed.verified(Vector, domain, SIGNER.address, question)


def test_a_message_does_not_count_as_another_kind_with_the_same_content() -> None:
    class Likeness(Message):
        ciphertexts: bytes

    signed = SIGNER.sign(Likeness(ciphertexts=b"c"), QUESTION)
    assert signed.content == ANSWER.pack()
    with pytest.raises(InvalidSignature):
        signed.verified(Vector, DOMAIN, SIGNER.address, QUESTION)


def test_somebody_elses_message_is_refused() -> None:
    other = Signer(Account.from_key(b"\x08" * 32), DOMAIN)
    with pytest.raises(InvalidSignature, match=other.address):
        other.sign(ANSWER).verified(Vector, DOMAIN, SIGNER.address)


def signed_bytes(model: type[Message], content: bytes) -> Signed:
    """Sign any bytes as a message of that kind."""

    class Raw(Message):
        def pack(self) -> bytes:
            return content

    Raw.__name__ = model.__name__
    return SIGNER.sign(Raw())


@pytest.mark.parametrize(
    "content",
    [
        b"\xc1",
        ormsgpack.packb([1]),
        ormsgpack.packb({"version": 2}),
        ormsgpack.packb({"version": 1, "ciphertexts": b""}),
        ormsgpack.packb({"version": 2, "ciphertexts": b"", "more": 1}),
    ],
)
def test_what_is_signed_but_no_such_message_is_refused(content: bytes) -> None:
    signed = signed_bytes(Vector, content)
    with pytest.raises(VerificationFailed, match="no Vector"):
        signed.verified(Vector, DOMAIN, SIGNER.address)


@pytest.mark.parametrize(
    "content",
    [
        ormsgpack.packb({"version": 2, "ciphertexts": b"c"}),  # not in the order of the keys
        ormsgpack.packb({"ciphertexts": "Yw==", "version": 2}),  # text where bytes belong
        b"\x82\xabciphertexts\xc5\x00\x01c\xa7version\x02",  # a length in more bytes than it needs
    ],
)
def test_another_encoding_of_a_message_is_refused(content: bytes) -> None:
    signed = signed_bytes(Vector, content)
    with pytest.raises(VerificationFailed, match="not in its canonical encoding"):
        signed.verified(Vector, DOMAIN, SIGNER.address)


def test_what_an_account_signs_is_readable() -> None:
    # Wallets show it; and other software may have to make it.
    text = (
        "DeltaML 2\nchain 31337\n"
        f"contract {CONTRACT.lower()}\n"
        "message Vector\n"
        f"answers {QUESTION.digest.hex()}\n"
        f"content {SIGNER.sign(ANSWER).digest.hex()}"
    )
    assert SIGNER.sign(ANSWER, QUESTION).signature == sign(text.encode(), SIGNER.account)
    unasked = text.replace(QUESTION.digest.hex(), "nothing")
    assert SIGNER.sign(ANSWER).signature == sign(unasked.encode(), SIGNER.account)


def test_different_messages_have_different_digests() -> None:
    said = [
        Acknowledgement(),
        Cosignature(signature=b""),
        LocalModelQuestion(training=TRAINING),
        Notice(training=TRAINING),
        Notice(training=TRAINING, reason=""),
        Vector(ciphertexts=b""),
    ]
    assert len({SIGNER.sign(message).digest for message in said}) == len(said)


def test_a_proof_is_bound_to_everything_that_it_is_about() -> None:
    about = (DOMAIN, TRAINING, "key", 0, SIGNER.address)
    others = [
        (Domain(1, CONTRACT), *about[1:]),
        (Domain(31337, "0x" + "1" * 40), *about[1:]),
        (DOMAIN, uuid.UUID(int=8), *about[2:]),
        (*about[:2], "products-zero", *about[3:]),
        (*about[:3], 1, SIGNER.address),
        (*about[:4], CONTRACT),
    ]
    assert len({proof_context(*each) for each in (about, *others)}) == 7
    lower = (Domain(31337, CONTRACT.lower()), *about[1:4], SIGNER.address.lower())
    assert proof_context(*lower) == proof_context(*about)
