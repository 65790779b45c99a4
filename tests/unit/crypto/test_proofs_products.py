from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from gmpy2 import mpz
from hypothesis import given, settings
from hypothesis import strategies as st

from commons.crypto import proofs
from commons.crypto.packing import SLOT_BITS
from commons.crypto.paillier import PrivateKey
from commons.crypto.proofs import InvalidProof, ProductProof, prove_products, verify_products
from commons.protocol import evaluation
from tests.unit.crypto import slow_proofs as slow

KNOWN: dict[str, Any] = json.loads(slow.VECTORS.read_text())
P, Q = (int(KNOWN["keys"][0][name], 16) for name in "pq")
N = P * Q
KEY = PrivateKey(P, Q)
PUBLIC = KEY.public_key
CONTEXT = b"training 1, round 5, buyer"

Vectors = Sequence[Sequence[int]]
Ciphertexts = list[list[mpz]]

OPENED = [[3, 2**168 - 1, 2**120], [5, 0, 2**167]]


def encrypted(opened: Vectors) -> tuple[Ciphertexts, Ciphertexts]:
    return [KEY.encrypt(vector) for vector in opened], evaluation.products(opened, KEY)


MASKED, PRODUCTS = encrypted(OPENED)
PROOF = prove_products(MASKED, PRODUCTS, OPENED, KEY, CONTEXT)


def forged(masked: Ciphertexts, products: Ciphertexts, opened: Vectors = OPENED) -> ProductProof:
    """What the honest prover's steps give for any statement."""
    data = slow.prove_products(masked, products, opened, P, Q, CONTEXT, Random(4))
    return ProductProof.from_bytes(data, len(masked), PUBLIC)


def plain(known: dict[str, Any], name: str) -> Ciphertexts:
    return [[mpz(number, 16) for number in vector] for vector in known[name]]


@pytest.mark.parametrize("known", KNOWN["products"], ids=lambda known: bytes.fromhex(known["context"]).decode())
class TestKnownAnswers:
    def test_proofs_of_the_slow_implementation_are_accepted(self, known: dict[str, Any]) -> None:
        masked, products, data = plain(known, "masked"), plain(known, "products"), bytes.fromhex(known["proof"])
        proof = ProductProof.from_bytes(data, len(masked), PUBLIC)
        verify_products(masked, products, proof, PUBLIC, bytes.fromhex(known["context"]))
        assert proof.to_bytes(PUBLIC) == data

    def test_challenges_are_the_published_ones(self, known: dict[str, Any]) -> None:
        masked, products = plain(known, "masked"), plain(known, "products")
        proof = ProductProof.from_bytes(bytes.fromhex(known["proof"]), len(masked), PUBLIC)
        combination = proofs._Combination.of(masked, products, PUBLIC, bytes.fromhex(known["context"]))
        assert [hex(number) for number in combination.s] == known["s"]
        assert [hex(number) for number in combination.t] == known["t"]
        challenge = combination.challenge(proof.commitments, proof.product_commitment, PUBLIC)
        assert hex(challenge) == known["challenge"]

    def test_our_proofs_are_accepted_by_the_slow_implementation(self, known: dict[str, Any]) -> None:
        masked, products, opened = (plain(known, name) for name in ("masked", "products", "opened"))
        data = prove_products(masked, products, opened, KEY, b"ours").to_bytes(PUBLIC)
        assert slow.products_hold(masked, products, data, N, b"ours")
        assert not slow.products_hold(masked, products, data, N, b"others")


@settings(max_examples=25)
@given(
    st.integers(1, 3).flatmap(
        lambda d: st.lists(st.lists(st.integers(-(2**200), 2**200), min_size=d, max_size=d), min_size=1, max_size=3)
    )
)
def test_products_are_proven_for_any_vectors(opened: list[list[int]]) -> None:
    masked, products = encrypted(opened)
    proof = prove_products(masked, products, opened, KEY, CONTEXT)
    verify_products(masked, products, proof, PUBLIC, CONTEXT)
    for context in (b"", b"training 1, round 6, buyer", b"training 2, round 5, buyer"):
        with pytest.raises(InvalidProof, match="another number"):
            verify_products(masked, products, proof, PUBLIC, context)


@settings(max_examples=25)
@given(st.data())
def test_one_wrong_product_is_refused(data: st.DataObject) -> None:
    vector = data.draw(st.integers(0, len(OPENED) - 1))
    entry = data.draw(st.integers(0, len(PRODUCTS[0]) - 1))
    change = data.draw(st.sampled_from([1, -1, 2**168, N // 2, P, Q]))
    products = [list(row) for row in PRODUCTS]
    products[vector][entry] = PUBLIC.add(products[vector][entry], change)
    with pytest.raises(InvalidProof, match="another number"):
        verify_products(MASKED, products, PROOF, PUBLIC, CONTEXT)
    with pytest.raises(InvalidProof, match="another number"):
        verify_products(MASKED, products, forged(MASKED, products), PUBLIC, CONTEXT)
    with pytest.raises(InvalidProof, match="another number"):
        prove_products(MASKED, products, OPENED, KEY, CONTEXT)


def test_equal_products_at_each_others_place_are_refused() -> None:
    products = [[PRODUCTS[0][1], PRODUCTS[0][0], *PRODUCTS[0][2:]], PRODUCTS[1]]
    with pytest.raises(InvalidProof, match="another number"):
        verify_products(MASKED, products, forged(MASKED, products), PUBLIC, CONTEXT)


def test_masked_numbers_of_another_round_are_refused() -> None:
    masked, _ = encrypted(OPENED)
    with pytest.raises(InvalidProof, match="another number"):
        verify_products(masked, PRODUCTS, PROOF, PUBLIC, CONTEXT)
    with pytest.raises(InvalidProof, match="another number"):
        verify_products(MASKED[::-1], PRODUCTS[::-1], PROOF, PUBLIC, CONTEXT)


def test_prover_answers_for_nothing_but_what_it_opened() -> None:
    """Neither another's masked ciphertexts nor other products: the answers would decrypt them."""
    for masked in (
        [KEY.encrypt([4, *OPENED[0][1:]]), MASKED[1]],
        [[PUBLIC.add(MASKED[0][0], N // 3), *MASKED[0][1:]], MASKED[1]],
        MASKED[::-1],
    ):
        with pytest.raises(InvalidProof, match="another number"):
            prove_products(masked, PRODUCTS, OPENED, KEY, CONTEXT)
    with pytest.raises(InvalidProof, match="as many plaintexts"):
        prove_products(MASKED, PRODUCTS, OPENED[:1], KEY, CONTEXT)


def test_products_of_two_vectors_that_cancel_in_the_sum_are_refused() -> None:
    """The weights t keep vectors apart: +1 in one and −1 in the other would cancel without."""
    products = [list(row) for row in PRODUCTS]
    products[0][0], products[1][0] = PUBLIC.add(products[0][0], 1), PUBLIC.add(products[1][0], -1)
    with pytest.raises(InvalidProof, match="another number"):
        verify_products(MASKED, products, forged(MASKED, products), PUBLIC, CONTEXT)


def test_slots_traded_against_one_another_pass_a_repacked_check_and_are_refused_here() -> None:
    """One less in a slot is 2^168 more in the next: the packed sum is the same, and both products are wrong."""

    def repacked(row: Sequence[mpz]) -> mpz:
        total = mpz(1)
        for ciphertext in row:  # Horner
            total = pow(total, 1 << SLOT_BITS, PUBLIC.n_squared) * ciphertext % PUBLIC.n_squared
        return total

    vector = OPENED[0]
    true = [vector[j] * vector[k] for j, k in slow.pairs(3)]
    expected = 0
    for value in true:
        expected = (expected << SLOT_BITS) + value
    products = [list(row) for row in PRODUCTS]
    products[0][4] = PUBLIC.add(products[0][4], -1)
    products[0][5] = PUBLIC.add(products[0][5], 1 << SLOT_BITS)
    found = [KEY.decrypt(ciphertext) for ciphertext in products[0]]
    assert [a - b for a, b in zip(found, true, strict=True)] == [0, 0, 0, 0, -1, 1 << SLOT_BITS]
    assert KEY.decrypt(repacked(products[0])) == KEY.decrypt(repacked(PRODUCTS[0])) == expected % N
    with pytest.raises(InvalidProof, match="another number"):
        verify_products(MASKED, products, forged(MASKED, products), PUBLIC, CONTEXT)
    with pytest.raises(InvalidProof, match="another number"):
        prove_products(MASKED, products, OPENED, KEY, CONTEXT)


def test_reused_challenge_is_refused() -> None:
    """Whoever knows e beforehand begins with the answers and proves anything; but e is the hash of what they give."""
    products = [list(row) for row in PRODUCTS]
    products[0][0] = PUBLIC.add(products[0][0], 7)
    random = Random(9)
    square = N * N
    _, s, t = slow.combination(MASKED, products, N, CONTEXT)
    linear, quadratic = slow.combine(MASKED, products, s, t, N)
    combination = proofs._Combination.of(MASKED, PRODUCTS, PUBLIC, CONTEXT)
    e = combination.challenge(PROOF.commitments, PROOF.product_commitment, PUBLIC)
    f, g, h = ([random.randrange(N) for _ in linear] for _ in range(3))
    A = [slow.encrypt(a, r, N) * pow(L, -e, square) % square for a, r, L in zip(f, g, linear, strict=True)]
    B = pow(quadratic, -e, square) * pow(h[0], -N, square) % square
    for L, weight, answer in zip(linear, t, f, strict=True):
        B = B * pow(L, weight * answer, square) % square
    data = slow.products_bytes(A, B, f, g, h[0], N)
    assert slow.products_fit(MASKED, products, data, N, CONTEXT, e)
    with pytest.raises(InvalidProof, match="another number"):
        verify_products(MASKED, products, ProductProof.from_bytes(data, 2, PUBLIC), PUBLIC, CONTEXT)


NOT_REDUCED = {
    "A": replace(PROOF, commitments=(PROOF.commitments[0] + PUBLIC.n_squared, PROOF.commitments[1])),
    "B": replace(PROOF, product_commitment=PROOF.product_commitment - PUBLIC.n_squared),
    "f": replace(PROOF, answers=(PROOF.answers[0] + N, PROOF.answers[1])),
    "negative f": replace(PROOF, answers=(PROOF.answers[0], PROOF.answers[1] - N)),
    "g": replace(PROOF, roots=(PROOF.roots[0] + N, PROOF.roots[1])),
    "h": replace(PROOF, product_root=PROOF.product_root + N),
}

NO_UNITS = {
    "A = 0": replace(PROOF, commitments=(mpz(0), PROOF.commitments[1])),
    "A = p": replace(PROOF, commitments=(mpz(P), PROOF.commitments[1])),
    "B = n": replace(PROOF, product_commitment=PUBLIC.n),
    "g = 0": replace(PROOF, roots=(PROOF.roots[0], mpz(0))),
    "g = 3q": replace(PROOF, roots=(PROOF.roots[0], mpz(3 * Q))),
    "h = p": replace(PROOF, product_root=mpz(P)),
}


@pytest.mark.parametrize("name", NOT_REDUCED)
def test_numbers_that_are_not_reduced_are_refused(name: str) -> None:
    verify_products(MASKED, PRODUCTS, PROOF, PUBLIC, CONTEXT)
    with pytest.raises(InvalidProof, match="reduced"):
        verify_products(MASKED, PRODUCTS, NOT_REDUCED[name], PUBLIC, CONTEXT)


@pytest.mark.parametrize("name", NO_UNITS)
def test_numbers_that_are_no_units_are_refused(name: str) -> None:
    with pytest.raises(InvalidProof, match="shares a factor|reduced"):
        verify_products(MASKED, PRODUCTS, NO_UNITS[name], PUBLIC, CONTEXT)


def test_ciphertexts_that_are_no_units_are_refused_on_both_sides() -> None:
    for wrong in (mpz(0), mpz(P), PUBLIC.n, PUBLIC.n_squared + 1):
        products = [[wrong, *PRODUCTS[0][1:]], PRODUCTS[1]]
        with pytest.raises(InvalidProof, match="shares a factor|reduced"):
            verify_products(MASKED, products, PROOF, PUBLIC, CONTEXT)
        with pytest.raises(InvalidProof, match="shares a factor|reduced"):
            prove_products(MASKED, products, OPENED, KEY, CONTEXT)


CHANGED = {
    "A": replace(PROOF, commitments=PROOF.commitments[::-1]),
    "B": replace(PROOF, product_commitment=PUBLIC.add(PROOF.product_commitment, 1)),
    "f": replace(PROOF, answers=(PROOF.answers[0], (PROOF.answers[1] + 1) % N)),
    "g": replace(PROOF, roots=(PROOF.roots[0] * 2 % N, PROOF.roots[1])),
    "h": replace(PROOF, product_root=PROOF.product_root * 2 % N),
}


@pytest.mark.parametrize("name", CHANGED)
def test_changed_proofs_are_refused(name: str) -> None:
    with pytest.raises(InvalidProof, match="another number"):
        verify_products(MASKED, PRODUCTS, CHANGED[name], PUBLIC, CONTEXT)


def test_every_verifier_comes_to_the_same_verdict() -> None:
    """Of a root with the wrong sign, too, which may pass (a root is there all the same) or not."""
    verdicts = set()
    for _ in range(6):
        try:
            verify_products(
                MASKED, PRODUCTS, replace(PROOF, roots=(N - PROOF.roots[0], PROOF.roots[1])), PUBLIC, CONTEXT
            )
            verdicts.add("accepted")
        except InvalidProof:
            verdicts.add("refused")
    assert len(verdicts) == 1


@pytest.mark.parametrize(
    ("masked", "products"),
    [
        ([], []),
        ([[]], [[]]),
        (MASKED[:1], PRODUCTS),
        (MASKED, PRODUCTS[:1]),
        (MASKED, [PRODUCTS[0][:-1], PRODUCTS[1]]),
        ([MASKED[0][:2], MASKED[1]], PRODUCTS),
        ([MASKED[0][:2], MASKED[1]], [PRODUCTS[0][:3], PRODUCTS[1]]),
    ],
    ids=["none", "empty", "a vector less", "a row less", "an entry less", "a number less", "different lengths"],
)
def test_lists_that_do_not_fit_are_refused(masked: Ciphertexts, products: Ciphertexts) -> None:
    with pytest.raises(InvalidProof, match="there are others"):
        verify_products(masked, products, PROOF, PUBLIC, CONTEXT)
    with pytest.raises(InvalidProof, match="there are others"):
        prove_products(masked, products, OPENED, KEY, CONTEXT)


def test_proofs_about_fewer_vectors_are_refused() -> None:
    for wrong in (replace(PROOF, answers=PROOF.answers[:1]), replace(PROOF, commitments=()), replace(PROOF, roots=())):
        with pytest.raises(InvalidProof, match="2 vectors was claimed"):
            verify_products(MASKED, PRODUCTS, wrong, PUBLIC, CONTEXT)


def test_proofs_of_another_length_are_refused() -> None:
    data = PROOF.to_bytes(PUBLIC)
    assert len(data) == 3 * 128 + 5 * 64
    assert ProductProof.from_bytes(data, 2, PUBLIC) == PROOF
    for wrong, vectors in ((data[1:], 2), (data + b"\0", 2), (data, 1), (data, 3)):
        with pytest.raises(InvalidProof, match="bytes was claimed"):
            ProductProof.from_bytes(wrong, vectors, PUBLIC)


def test_proofs_are_fresh() -> None:
    other = prove_products(MASKED, PRODUCTS, OPENED, KEY, CONTEXT)
    assert not {*other.commitments, *other.answers, *other.roots} & {*PROOF.commitments, *PROOF.answers, *PROOF.roots}
