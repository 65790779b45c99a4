from __future__ import annotations

from dataclasses import replace

import pytest
from gmpy2 import mpz

from commons.crypto.paillier import InvalidOpening, PrivateKey, PublicKey
from commons.crypto.proofs import Opening, verify_opening, verify_openings


def opened(key: PrivateKey, ciphertext: mpz) -> Opening:
    _, randomiser = key.opening(ciphertext)
    return Opening(key.decrypt_signed(ciphertext), randomiser)


@pytest.mark.parametrize("total", [0, 1, -1, 2**300, -(2**300)])
def test_openings_are_accepted_as_they_are_and_refused_when_changed(
    private_key: PrivateKey, public_key: PublicKey, total: int
) -> None:
    (ciphertext,) = private_key.encrypt([total])
    opening = opened(private_key, ciphertext)
    assert opening.total == total
    verify_opening(ciphertext, opening, public_key)
    for wrong in (
        replace(opening, total=total + 1),
        replace(opening, total=-total - 1),
        replace(opening, randomiser=opening.randomiser + 1),
        replace(opening, randomiser=0),
    ):
        with pytest.raises(InvalidOpening):
            verify_opening(ciphertext, wrong, public_key)
        with pytest.raises(InvalidOpening):
            verify_openings([ciphertext], [wrong], public_key)
    with pytest.raises(InvalidOpening):
        verify_opening(public_key.add(ciphertext, 1), opening, public_key)


def test_many_openings_are_checked_at_once(private_key: PrivateKey, public_key: PublicKey) -> None:
    ciphertexts = private_key.encrypt([5, -(2**250), 0, 7])
    openings = [opened(private_key, ciphertext) for ciphertext in ciphertexts]
    verify_openings(ciphertexts, openings, public_key)
    verify_openings([], [], public_key)
    # Changes that cancel in the sum do not cancel in a random combination.
    openings[0], openings[3] = replace(openings[0], total=6), replace(openings[3], total=6)
    with pytest.raises(InvalidOpening):
        verify_openings(ciphertexts, openings, public_key)
    with pytest.raises(ValueError, match="zip"):
        verify_openings(ciphertexts, openings[:3], public_key)


def test_numbers_not_reduced_modulo_n_are_refused(private_key: PrivateKey, public_key: PublicKey) -> None:
    (ciphertext,) = private_key.encrypt([12])
    opening = opened(private_key, ciphertext)
    n = int(public_key.n)
    for same in (
        replace(opening, total=12 + n),
        replace(opening, total=12 - n),
        replace(opening, randomiser=opening.randomiser + n),
        replace(opening, randomiser=opening.randomiser - n),
    ):
        with pytest.raises(InvalidOpening, match="not reduced"):
            verify_opening(ciphertext, same, public_key)
        with pytest.raises(InvalidOpening, match="not reduced"):
            verify_openings([ciphertext], [same], public_key)


def test_every_verifier_of_many_openings_comes_to_the_same_verdict(
    private_key: PrivateKey, public_key: PublicKey
) -> None:
    """Of a randomiser with the wrong sign, too: it says nothing about the total."""
    ciphertexts = private_key.encrypt([5, 6])
    openings = [opened(private_key, ciphertext) for ciphertext in ciphertexts]
    openings[0] = replace(openings[0], randomiser=int(public_key.n) - openings[0].randomiser)
    verdicts = set()
    for _ in range(12):
        try:
            verify_openings(ciphertexts, openings, public_key)
            verdicts.add("accepted")
        except InvalidOpening:
            verdicts.add("refused")
    assert len(verdicts) == 1
