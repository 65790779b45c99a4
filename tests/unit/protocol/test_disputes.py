"""Evidence is what its claim names, to the byte, and nobody else's."""

from __future__ import annotations

import io
import uuid

import pytest
from eth_account import Account
from hypothesis import given
from hypothesis import strategies as st

from commons.errors import InvalidInput, VerificationFailed
from commons.protocol import disputes
from commons.protocol.disputes import Copy, Difference, Evidence
from commons.protocol.signed import Domain, Signer

TRAINING = uuid.UUID(int=7)
SIGNER = Signer(Account.create(), Domain(31337, "0x" + "0c" * 20))
OTHER = Signer(Account.create(), SIGNER.domain)
COPIES = [Copy(kind="update", round=i, question=b"asked %d" % i, answer=b"answered") for i in range(3)]
DIFFERENCES = [Difference("whether it answered", "no", "yes"), Difference("the final MSE", "7", "8")]
CLAIM = disputes.claim(TRAINING, SIGNER.address, DIFFERENCES, iter(COPIES))
SIGNED = SIGNER.sign(CLAIM)
FILE = b"".join(disputes.write(SIGNED, COPIES))


def verify(evidence: Evidence, training: uuid.UUID = TRAINING, disputer: str = SIGNER.address) -> disputes.Claim:
    return disputes.verify(evidence, training, disputer, disputes.evidence_hash(SIGNED), SIGNER.domain)


def test_claim_says_every_difference_and_names_every_copy() -> None:
    assert (CLAIM.claim, CLAIM.reported, CLAIM.computed) == ("whether it answered; the final MSE", "no; 7", "yes; 8")
    assert CLAIM.exchanges == (("update", 0), ("update", 1), ("update", 2))


def test_evidence_that_is_read_back_is_verified() -> None:
    evidence = disputes.read(io.BytesIO(FILE))
    assert evidence == Evidence(SIGNED, COPIES)
    assert verify(evidence) == CLAIM


def test_cut_evidence_is_none() -> None:
    for length in range(len(FILE)):
        with pytest.raises((InvalidInput, VerificationFailed)):
            verify(disputes.read(io.BytesIO(FILE[:length])))


@pytest.mark.parametrize("data", [b"", b"DeltaML transcript 2\n", disputes.MAGIC + b"\0\0\0\1\xc0", FILE + b"\0"])
def test_file_that_is_no_evidence_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidInput):
        disputes.read(io.BytesIO(data))


@given(st.integers(0, len(FILE)), st.binary(max_size=20), st.integers(0, 40))
def test_no_bytes_make_reading_fail_in_another_way(place: int, noise: bytes, lost: int) -> None:
    changed = FILE[:place] + noise + FILE[place + lost :]
    if changed != FILE:
        with pytest.raises((InvalidInput, VerificationFailed)):
            verify(disputes.read(io.BytesIO(changed)))


@pytest.mark.parametrize("copies", [[], COPIES[:2], COPIES[::-1], [*COPIES, COPIES[0]]])
def test_copies_are_those_that_the_claim_names(copies: list[Copy]) -> None:
    with pytest.raises(VerificationFailed, match="the copies are not those that the claim names"):
        verify(Evidence(SIGNED, copies))


def test_changed_copy_is_found() -> None:
    changed = COPIES[1].model_copy(update={"answer": b"another"})
    with pytest.raises(VerificationFailed, match="the copies are not those that the claim names"):
        verify(Evidence(SIGNED, [COPIES[0], changed, COPIES[2]]))


def test_claim_is_the_one_on_chain() -> None:
    with pytest.raises(VerificationFailed, match="is on chain, and this one's is"):
        verify(Evidence(SIGNER.sign(CLAIM.model_copy(update={"reported": "x"})), COPIES))


def test_claim_is_of_this_training_and_of_the_disputer_on_chain() -> None:
    evidence = Evidence(SIGNED, COPIES)
    with pytest.raises(VerificationFailed, match="was expected"):
        verify(evidence, training=uuid.UUID(int=8))
    with pytest.raises(VerificationFailed, match="its signature gives"):
        verify(evidence, disputer=OTHER.address)


def test_claim_of_who_did_not_dispute_is_of_this_training_and_its_own() -> None:
    evidence = Evidence(SIGNED, COPIES)
    assert disputes.verify(evidence, TRAINING, SIGNER.address, None, SIGNER.domain) == CLAIM
    with pytest.raises(VerificationFailed, match="was expected"):
        disputes.verify(evidence, uuid.UUID(int=8), SIGNER.address, None, SIGNER.domain)
    with pytest.raises(VerificationFailed, match="its signature gives"):
        disputes.verify(evidence, TRAINING, OTHER.address, None, SIGNER.domain)
    with pytest.raises(VerificationFailed, match="the copies are not those"):
        disputes.verify(Evidence(SIGNED, COPIES[:2]), TRAINING, SIGNER.address, None, SIGNER.domain)


def test_long_list_of_differences_is_cut() -> None:
    long = disputes.claim(TRAINING, SIGNER.address, DIFFERENCES * 5_000, COPIES)
    assert len(long.claim) == disputes.MAX_WORDS
