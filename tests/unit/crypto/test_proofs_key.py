from __future__ import annotations

import json
from dataclasses import replace
from math import prod
from random import Random
from typing import Any

import pytest
from gmpy2 import is_prime, mpz, powmod
from hypothesis import given, settings
from hypothesis import strategies as st

from commons.crypto import proofs
from commons.crypto.paillier import InvalidKey, PrivateKey
from commons.crypto.proofs import InvalidProof, KeyProof, prove_key, verify_key
from tests.unit.crypto import slow_proofs as slow

KNOWN: dict[str, Any] = json.loads(slow.VECTORS.read_text())
MODULI = {name: [int(number, 16) for number in primes] for name, primes in KNOWN["moduli"].items()}
P, Q = (int(KNOWN["keys"][0][name], 16) for name in "pq")
N = P * Q
KEY = PrivateKey(P, Q)
CONTEXT = b"training 1, buyer"
PROOF = prove_key(KEY, CONTEXT)


def verify(modulus: int, proof: KeyProof, context: bytes = CONTEXT) -> None:
    verify_key(modulus, proof, context, minimum_bits=512)


def slow_proof(primes: list[int], context: bytes = CONTEXT, split: int = 1) -> bytes:
    """What a forger with these primes can say: answers where there are any, and two factors."""
    random = Random(5)
    n = prod(primes)
    p = prod(primes[:split])
    return slow.SlowKey(
        *slow.prove_modulus(primes, context, random),
        slow.prove_roots(primes, context),
        *slow.prove_factors(p, n // p, context, random),
    ).to_bytes(n)


@pytest.mark.parametrize("known", KNOWN["keys"], ids=["512 bits", "2048 bits"])
class TestKnownAnswers:
    def test_proofs_of_the_slow_implementation_are_accepted(self, known: dict[str, Any]) -> None:
        p, q, data, context = int(known["p"], 16), int(known["q"], 16), bytes.fromhex(known["proof"]), known["context"]
        n = p * q
        proof = KeyProof.from_bytes(data, n.bit_length())
        key = verify_key(n, proof, bytes.fromhex(context), n.bit_length())
        assert key == PrivateKey(p, q).public_key
        assert proof.to_bytes() == data

    def test_challenges_are_the_published_ones(self, known: dict[str, Any]) -> None:
        n, context = mpz(int(known["p"], 16) * int(known["q"], 16)), bytes.fromhex(known["context"])
        proof = KeyProof.from_bytes(bytes.fromhex(known["proof"]), n.bit_length())
        challenges = proofs._modulus_challenges(n, proof.non_residue, context)
        assert [hex(number) for number in challenges[:2]] == known["modulus_challenges"]
        assert [hex(number) for number in proofs._root_challenges(n, context)[:2]] == known["root_challenges"]
        assert hex(proof.challenge) == known["factor_challenge"]

    def test_group_is_the_published_one(self, known: dict[str, Any]) -> None:
        bits = len(known["p"]) * 8 - 16
        group = proofs._Group.fitting(bits)
        assert [hex(number) for number in (group.prime, group.order, group.h)] == known["group"]

    def test_our_proofs_are_accepted_by_the_slow_implementation(self, known: dict[str, Any]) -> None:
        key = PrivateKey(int(known["p"], 16), int(known["q"], 16))
        n = int(key.public_key.n)
        data = prove_key(key, b"ours").to_bytes()
        assert slow.key_holds(n, data, b"ours")
        assert not slow.key_holds(n, data, b"others")


@pytest.mark.parametrize("length", proofs._RFC_3526)
def test_groups_have_prime_order_and_two_generators(length: int) -> None:
    bits = length - 518  # the longest even length that it serves
    group = proofs._Group.fitting(bits)
    assert group.prime.bit_length() == length
    assert is_prime(group.prime, 2) and is_prime(group.order, 2)
    assert group.prime == 2 * group.order + 1
    assert group.order > 2 * group.bound**2
    for generator in (group.g, group.h):
        assert 1 < generator < group.prime
        assert powmod(generator, group.order, group.prime) == 1


def test_generators_are_the_first_words_of_rfc_3526() -> None:
    words = "FFFFFFFF FFFFFFFF C90FDAA2 2168C234 C4C6628B 80DC1CD1 29024E08 8A67CC74"
    for bits in (512, 1024, 2048, 3072, 4096):
        assert f"{proofs._Group.fitting(bits).prime:X}".startswith(words.replace(" ", ""))


@settings(max_examples=10)
@given(st.binary(max_size=40), st.binary(max_size=40))
def test_proofs_are_accepted_for_their_context_only(context: bytes, other: bytes) -> None:
    proof = prove_key(KEY, context)
    verify(N, proof, context)
    if other != context:
        with pytest.raises(InvalidProof):
            verify(N, proof, other)


def test_generated_keys_can_be_proven() -> None:
    for _ in range(3):
        key = PrivateKey.generate(512)
        verify(int(key.public_key.n), prove_key(key, CONTEXT))


def test_written_proofs_are_read_again() -> None:
    data = PROOF.to_bytes()
    assert KeyProof.from_bytes(data, 512) == PROOF
    for wrong in (data[:-1], data + b"\0", b""):
        with pytest.raises(InvalidProof, match="bytes was claimed"):
            KeyProof.from_bytes(wrong, 512)


def test_proofs_reveal_no_prime_as_an_answer() -> None:
    """z = α + e·p with α far longer: neither quotient by e comes near a prime."""
    for answer in PROOF.factors:
        for prime in (P, Q):
            assert abs(answer - PROOF.challenge * prime).bit_length() > 480
    assert prove_key(KEY, CONTEXT).factors != PROOF.factors


def test_short_moduli_are_refused_where_no_test_names_them() -> None:
    with pytest.raises(InvalidKey, match="512 bits instead of 2048"):
        verify_key(N, PROOF, CONTEXT)


def test_proof_of_another_modulus_is_refused() -> None:
    other = PrivateKey.generate(512)
    with pytest.raises(InvalidProof):
        verify(int(other.public_key.n), PROOF)
    with pytest.raises(InvalidProof, match="1024 bits was claimed"):
        verify(int(PrivateKey.generate(1024).public_key.n), PROOF)


GROUP = proofs._Group.fitting(512)

CHANGED = {
    "w with symbol 1": replace(PROOF, non_residue=mpz(4)),
    "another w": replace(PROOF, non_residue=PROOF.non_residue * 4 % N),
    "w not reduced": replace(PROOF, non_residue=PROOF.non_residue + N),
    "w = 0": replace(PROOF, non_residue=mpz(0)),
    "a flag": replace(PROOF, negated=PROOF.negated ^ 1 << 77),
    "another flag": replace(PROOF, twisted=PROOF.twisted ^ 1 << 127),
    "a fourth root": replace(PROOF, fourth_roots=(*PROOF.fourth_roots[:-1], PROOF.fourth_roots[-1] * 2 % N)),
    "a fourth root not reduced": replace(PROOF, fourth_roots=(PROOF.fourth_roots[0] + N, *PROOF.fourth_roots[1:])),
    "a fourth root outside the units": replace(PROOF, fourth_roots=(mpz(P), *PROOF.fourth_roots[1:])),
    "a fourth root of 0": replace(PROOF, fourth_roots=(mpz(0), *PROOF.fourth_roots[1:])),
    "too few fourth roots": replace(PROOF, fourth_roots=PROOF.fourth_roots[1:]),
    "a root": replace(PROOF, roots=(*PROOF.roots[:-1], PROOF.roots[-1] + 1)),
    "a root of minus the challenge": replace(PROOF, roots=(N - PROOF.roots[0], *PROOF.roots[1:])),
    "a root not reduced": replace(PROOF, roots=(PROOF.roots[0] - N, *PROOF.roots[1:])),
    "no roots": replace(PROOF, roots=()),
    "roots in another order": replace(PROOF, roots=PROOF.roots[::-1]),
    "another commitment": replace(PROOF, commitment=PROOF.commitment * 4 % GROUP.prime),
    "a commitment that is no square": replace(PROOF, commitment=GROUP.prime - PROOF.commitment),
    "a commitment not reduced": replace(PROOF, commitment=PROOF.commitment + GROUP.prime),
    "a commitment of 0": replace(PROOF, commitment=mpz(0)),
    "another challenge": replace(PROOF, challenge=PROOF.challenge ^ 1),
    "a longer challenge": replace(PROOF, challenge=PROOF.challenge + (1 << 128)),
    "an answer plus the order": replace(PROOF, factors=(PROOF.factors[0] + GROUP.order, PROOF.factors[1])),
    "a negative answer": replace(PROOF, factors=(PROOF.factors[0], PROOF.factors[1] - GROUP.order)),
    "answers exchanged": replace(PROOF, factors=PROOF.factors[::-1]),
    "a blind": replace(PROOF, blinds=(PROOF.blinds[0] ^ 1, PROOF.blinds[1])),
    "a blind not reduced": replace(PROOF, blinds=(PROOF.blinds[0], PROOF.blinds[1] + GROUP.order)),
}


@pytest.mark.parametrize("name", CHANGED)
def test_changed_proofs_are_refused(name: str) -> None:
    verify(N, PROOF)
    with pytest.raises(InvalidProof):
        verify(N, CHANGED[name])


@pytest.mark.parametrize("name", ["three primes", *(name for name in MODULI if "leave" in name)])
def test_moduli_that_are_no_product_of_two_blum_primes_have_no_proof(name: str) -> None:
    primes = MODULI[name]
    n = prod(primes)
    data = slow_proof(primes)
    assert not slow.key_holds(n, data, CONTEXT)
    with pytest.raises(InvalidProof, match="a product of two primes was claimed, and fourth root"):
        verify(n, KeyProof.from_bytes(data, n.bit_length()))
    # Half of the challenges at least cannot be answered: 128 of 128 happen with probability 2^-128.
    _, _, _, found = slow.prove_modulus(primes, CONTEXT, Random(1))
    assert found.count(1) > 40
    # All else about such a modulus is true.
    slow_roots = slow.prove_roots(primes, CONTEXT)
    assert all(pow(z, n, n) == y for z, y in zip(slow_roots, slow.root_challenges(n, CONTEXT), strict=True))


def test_primes_that_leave_one_are_refused_by_the_prover() -> None:
    with pytest.raises(InvalidKey, match="1 instead of 3"):
        prove_key(PrivateKey(*MODULI["one prime leaves 1 when divided by 4"]), CONTEXT)


def test_modulus_with_gcd_of_n_and_phi_above_one_has_no_proof() -> None:
    primes = MODULI["gcd of n and phi above 1"]
    n = prod(primes)
    assert (primes[1] - 1) % primes[0] == 0
    data = slow_proof(primes)
    with pytest.raises(InvalidProof, match="gcd"):
        verify(n, KeyProof.from_bytes(data, n.bit_length()))


def test_modulus_with_a_prime_below_two_to_the_sixteen_is_refused() -> None:
    small = 65519
    n = small * P
    other = replace(PROOF, bits=n.bit_length())
    with pytest.raises(InvalidProof, match="2\\^16"):
        verify_key(
            n, replace(other, non_residue=mpz(2), fourth_roots=(mpz(1),) * 128, roots=(mpz(1),) * 8), CONTEXT, 256
        )


@pytest.mark.parametrize(
    ("n", "reason"),
    [(P * P, "perfect power"), (P**3, "perfect power"), (MODULI["a factor of 200 bits at 2048"][1], "a prime")],
    ids=["square", "cube", "prime"],
)
def test_squares_and_primes_are_refused_before_their_proof(n: int, reason: str) -> None:
    with pytest.raises(InvalidKey, match=reason):
        verify(n, replace(PROOF, bits=n.bit_length()))


def test_a_prime_would_pass_were_it_not_seen_to_be_one() -> None:
    """Nothing in the proofs about roots tells a prime from a product: `PublicKey.from_modulus` does."""
    w, a, b, x = slow.prove_modulus([P], CONTEXT, Random(3))
    challenges = slow.modulus_challenges(P, w, CONTEXT)
    for y, root, i, j in zip(challenges, x, a, b, strict=True):
        assert pow(root, 4, P) == (-1) ** i * w**j * y % P
    assert all(pow(y, P, P) == y for y in slow.root_challenges(P, CONTEXT))


@pytest.fixture(scope="module")
def forged() -> KeyProof:
    """What the honest prover's steps give of a modulus with a short factor."""
    return prove_key(PrivateKey(*TestShortFactor.primes), CONTEXT)


class TestShortFactor:
    """A factor of 200 bits in a modulus of 2048: true in all but the lengths."""

    primes = MODULI["a factor of 200 bits at 2048"]
    n = prod(primes)

    def test_has_an_answer_that_is_too_long(self, forged: KeyProof) -> None:
        assert forged.factors[1] >= 1 << 1281
        with pytest.raises(InvalidProof, match="too long"):
            verify_key(self.n, forged, CONTEXT)
        cut = replace(forged, factors=(forged.factors[0], forged.factors[1] % (1 << 1281)))
        with pytest.raises(InvalidProof, match="do not fit"):
            verify_key(self.n, cut, CONTEXT)

    def test_is_not_hidden_by_fractions(self, forged: KeyProof) -> None:
        """Two residues modulo Q of any product n satisfy the equations; as answers they are no short integers."""
        prime, order, h = slow.group(2048)
        assert self.primes[0].bit_length() == 200
        scale = 1 << 824
        left = self.primes[0] * scale  # as long as a true factor
        right = self.primes[1] * pow(scale, -1, order) % order  # and its fraction, so that left·right = n modulo Q
        random = Random(7)
        r, rho, tau = (random.randrange(order) for _ in range(3))
        alpha, beta = (random.randrange(1 << 1280) for _ in range(2))
        C = pow(4, left, prime) * pow(h, r, prime) % prime
        A = pow(4, alpha, prime) * pow(h, rho, prime) % prime
        D = pow(C, beta, prime) * pow(h, tau, prime) % prime
        e = slow.factor_challenge(self.n, CONTEXT, prime, C, A, D)
        z = (alpha + e * left, (beta + e * right) % order)
        blinds = ((rho + e * r) % order, (tau - e * r * right) % order)
        assert slow.factors_hold(self.n, C, e, *z, *blinds, CONTEXT)
        assert z[0] < 1 << 1281
        fraction = replace(
            forged, commitment=mpz(C), challenge=e, factors=tuple(map(mpz, z)), blinds=tuple(map(mpz, blinds))
        )
        with pytest.raises(InvalidProof, match="too long"):
            verify_key(self.n, fraction, CONTEXT)

    def test_is_not_hidden_by_a_reused_challenge(self, forged: KeyProof) -> None:
        """Whoever knows e beforehand can begin with the answers; but then e is not the hash of what they give."""
        reused = replace(forged, commitment=mpz(4) ** 5, factors=(mpz(12345), mpz(6789)), blinds=(mpz(1), mpz(2)))
        with pytest.raises(InvalidProof, match="do not fit the challenge"):
            verify_key(self.n, reused, CONTEXT)

    def test_is_all_that_is_wrong(self, forged: KeyProof) -> None:
        """Without the answers about lengths the forgery would pass."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(proofs, "_verify_factors", lambda *_: None)
            verify_key(self.n, forged, CONTEXT)


def test_a_number_with_symbol_one_cannot_stand_for_w() -> None:
    with pytest.raises(InvalidProof, match="Jacobi symbol"):
        verify(N, replace(PROOF, non_residue=mpz(4)))


def test_a_commitment_outside_the_group_is_refused_though_its_equations_hold() -> None:
    """−1 disappears wherever the challenge is even."""
    prime, order, h = slow.group(512)
    random = Random(8)
    r, rho, tau = (random.randrange(order) for _ in range(3))
    C = -pow(4, P, prime) * pow(h, r, prime) % prime
    e = 1
    while e % 2:
        alpha, beta = (random.randrange(1 << 512) for _ in range(2))
        A = pow(4, alpha, prime) * pow(h, rho, prime) % prime
        D = pow(C, beta, prime) * pow(h, tau, prime) % prime
        e = slow.factor_challenge(N, CONTEXT, prime, C, A, D)
    z, blinds = (alpha + e * P, beta + e * Q), ((rho + e * r) % order, (tau - e * r * Q) % order)
    assert slow.factors_hold(N, C, e, *z, *blinds, CONTEXT)
    outside = replace(PROOF, commitment=mpz(C), challenge=e, factors=tuple(map(mpz, z)), blinds=tuple(map(mpz, blinds)))
    with pytest.raises(InvalidProof, match="it is outside"):
        verify(N, outside)
