"""What a party shows about its secrets without showing them.

An :class:`Opening` shows which number a ciphertext holds, a :class:`KeyProof` that a modulus is a product of two
long primes, a :class:`ProductProof` that ciphertexts hold the products of what others hold.

All proofs are non-interactive (Fiat and Shamir, *How to prove yourself*, CRYPTO 1986): challenges are hashes of
everything said before. Each hash starts with what it is for, and with the caller's `context`, which names the
chain, the contract, the training, the round and the prover: no proof is one of another training or round. What is
claimed below about soundness and about what a proof reveals is meant with SHA-256 as a random oracle.

Every verifier demands numbers in their one reduced form. What is checked together, as a random combination, is
weighted by hashes of all of it: whoever checks the same, an arbiter too, comes to the same verdict.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain

from gmpy2 import const_pi, gcd, jacobi, mpz, powmod, primorial

from commons.crypto.kernel import Products, linear_combination
from commons.crypto.paillier import (
    MINIMUM_BITS,
    InvalidOpening,
    PrivateKey,
    PublicKey,
    random_non_residue,
)
from commons.errors import VerificationFailed

SECURITY = 128
"""Bits of a challenge: a false statement is proven with probability 2^−SECURITY for every hash that is tried."""

_FIELD = SECURITY // 8

# Numbers of challenges to the modulus: each is survived by half of the false moduli, or by one in 2^16.
_FOURTH_ROOTS = SECURITY
_SMALL_PRIMES = 1 << 16
_ROOTS = SECURITY // 16

# How much longer than what it hides a random integer is, and than what it is multiplied by.
_SLACK = 2 * SECURITY

# Primes of RFC 3526 (More modular exponential Diffie-Hellman groups for Internet Key Exchange) by their length:
# 2^k − 2^(k−64) − 1 + 2^64·(⌊2^(k−130)·π⌋ + c), and (P − 1)/2 is prime too.
_RFC_3526 = {1536: 741804, 2048: 124476, 3072: 1690314, 4096: 240904, 6144: 929484}


class InvalidProof(VerificationFailed):
    """A proof that does not show what it is said to show."""


@dataclass(frozen=True)
class Opening:
    """A decrypted number, with what proves that it was in the ciphertext.

    Parameters
    ----------
    total : int
        The plaintext, signed: in (−n/2, n/2).
    randomiser : int
        r in [1, n) such that the ciphertext is (1 + n)^total · r^n mod n².
    """

    total: int
    randomiser: int


def verify_opening(ciphertext: mpz, opening: Opening, key: PublicKey) -> None:
    """Check that `ciphertext` = (1 + n)^total · r^n mod n².

    Raises
    ------
    InvalidOpening
        If it is another ciphertext, or a number is not reduced modulo n.
    """
    _require_reduced(opening, key)
    if _made(opening.total, mpz(opening.randomiser), key) != ciphertext:
        raise InvalidOpening(f"{opening.total} was claimed, and the ciphertext holds another number")


def verify_openings(ciphertexts: Sequence[mpz], openings: Sequence[Opening], key: PublicKey) -> None:
    """Check many openings at the price of one: :func:`verify_opening` of a random combination of them.

    With 128-bit exponents from the hash of everything, a wrong total passes with probability 2^−128 for every hash
    that is tried, as n has no factor that short (the small exponents test of Bellare, Garay and Rabin, *Fast batch
    verification for modular exponentiation and digital signatures*, EUROCRYPT 1998). A randomiser may be off by a
    factor of small order: it says nothing about a total.

    Raises
    ------
    InvalidOpening
        If a total is not the one in its ciphertext, or a number is not reduced modulo n.
    """
    said = [key.encode(ciphertexts)]
    for opening in openings:
        _require_reduced(opening, key)
        said += [_residue_bytes(opening.total % key.n, key.n), _residue_bytes(opening.randomiser, key.n)]
    exponents = _numbers(_digest("openings", _residue_bytes(key.n, key.n), *said), len(openings))
    root = mpz(1)
    for opening, exponent in zip(openings, exponents, strict=True):
        root = root * powmod(opening.randomiser, exponent, key.n) % key.n
    total = sum(opening.total * exponent for opening, exponent in zip(openings, exponents, strict=True))
    if _made(total, root, key) != linear_combination(ciphertexts, exponents, 0, key):
        raise InvalidOpening(f"{len(openings)} totals were claimed, and a ciphertext holds another number")


def _made(total: int, root: mpz, key: PublicKey) -> mpz:
    return key.encrypt(total, powmod(root, key.n, key.n_squared))


def _require_reduced(opening: Opening, key: PublicKey) -> None:
    if not (2 * abs(opening.total) < key.n and 0 < opening.randomiser < key.n):
        raise InvalidOpening("the opening of a ciphertext has a number that is not reduced modulo n")


@dataclass(frozen=True)
class KeyProof:
    """A proof that a modulus n is a product of two long primes and fit for Paillier's cryptosystem.

    See :func:`prove_key` for what the numbers are.

    Parameters
    ----------
    bits : int
        Length of the modulus.
    non_residue : mpz
        w in [1, n), with Jacobi symbol −1.
    negated, twisted : int
        Bit i is the exponent of −1, or of w, by which challenge i was multiplied.
    fourth_roots : tuple of 128 mpz
        In [1, n).
    roots : tuple of 8 mpz
        n-th roots, in [1, n).
    commitment : mpz
        C in [1, P).
    challenge : int
        e, of 128 bits.
    factors : tuple of 2 mpz
        The answers z₁ and z₂, integers below 2^(bits/2 + 257).
    blinds : tuple of 2 mpz
        The answers w₁ and v, in [0, Q).
    """

    bits: int
    non_residue: mpz
    negated: int
    twisted: int
    fourth_roots: tuple[mpz, ...]
    roots: tuple[mpz, ...]
    commitment: mpz
    challenge: int
    factors: tuple[mpz, ...]
    blinds: tuple[mpz, ...]

    def to_bytes(self) -> bytes:
        """Write all numbers one after the other, big-endian, in widths that the length of the modulus gives."""
        numbers = (
            self.non_residue,
            self.negated,
            self.twisted,
            *self.fourth_roots,
            *self.roots,
            self.commitment,
            self.challenge,
            *self.factors,
            *self.blinds,
        )
        return _join(numbers, _key_widths(self.bits))

    @classmethod
    def from_bytes(cls, data: bytes, bits: int) -> KeyProof:
        """Read what :meth:`to_bytes` wrote.

        Parameters
        ----------
        data : bytes
            The proof.
        bits : int
            Length of the modulus.

        Raises
        ------
        InvalidProof
            If it has another length than proofs for such a modulus.
        """
        numbers = _split(data, _key_widths(bits))
        return cls(
            bits=bits,
            non_residue=next(numbers),
            negated=int(next(numbers)),
            twisted=int(next(numbers)),
            fourth_roots=_take(numbers, _FOURTH_ROOTS),
            roots=_take(numbers, _ROOTS),
            commitment=next(numbers),
            challenge=int(next(numbers)),
            factors=_take(numbers, 2),
            blinds=_take(numbers, 2),
        )


def prove_key(private_key: PrivateKey, context: bytes) -> KeyProof:
    """Show that the modulus n of a key is a product of two primes, both long, with gcd(n, φ(n)) = 1.

    (a) *Two primes that leave 3 when divided by 4, if n has no square factor.* The proof Π_mod of Canetti, Gennaro,
    Goldfeder, Makriyannis and Peled, *UC non-interactive, proactive, threshold ECDSA with identifiable aborts*
    (2020, ePrint 2021/060, figure 16), after van de Graaf and Peralta, *A simple and secure way to show the validity
    of your public key* (CRYPTO 1987): a number w with Jacobi symbol −1, and fourth roots of (−1)^a·w^b·y for 128
    hashed y, with a and b chosen for each. Modulo two such primes one of the four is a square, and squares are
    fourth powers. Were there three primes, or did one leave 1, the units modulo fourth powers would be 8 or more
    classes of equal size, the four numbers in at most 4 of them: each y is answered with probability 1/2 at most.
    (Of a single prime it shows nothing; the verifier sees that n is none.)

    (b) *gcd(n, φ(n)) = 1, hence no square factor.* n-th roots of 8 hashed numbers: Goldberg, Reyzin, Sagga and
    Baldimtsi, *Efficient noninteractive certification of RSA moduli and beyond* (ASIACRYPT 2019, ePrint 2018/057).
    If a prime divided n and φ(n), one unit in as many at most would have a root, and that prime is above 2^16: the
    verifier tries those below.

    (c) *Both primes are above 2^(bits/2 − 258)* (2^766 at 2048 bits), by commitments in the group of squares modulo
    a safe prime P = 2Q + 1, in which nobody knows the logarithm of h to the base g; no verifier has to set anything
    up. With n = p·q let C = g^p·h^r, then C^q·h^t = g^n for t = −r·q. Knowledge of p, r and q, t is shown with one
    challenge e and integer answers z₁ = α + e·p, z₂ = β + e·q below 2^B, B = bits/2 + 257. Two accepted answers to
    different e give Δz₁/Δe as what C holds and then Δz₁·Δz₂ = n·Δe² modulo Q, or the logarithm; since Q > 2^(2B+1)
    the equation holds over the integers. So the longer prime, which does not divide Δe as it is longer than that,
    divides Δz₁ or Δz₂: it is below 2^B, and the other one is above n/2^B ≥ 2^(bits/2 − 258). That Δz/Δe may be
    fractions, which elsewhere spoils proofs of this kind in groups of known order, does no harm here: nothing is said
    about what C holds, only about the two integers Δz₁ and Δz₂, whose size was checked.

    An honest proof is always accepted. A false statement is accepted with probability 2^−128 for every hash that
    its prover computes, (c) if logarithms in the group are hard to find. (a) and (b) reveal nothing: whoever picks
    the roots and programs the hashes makes the same proof. Neither does (c) but for a statistical distance of
    2^−127: C hides p perfectly, and α and β are 128 bits longer than what they hide.

    Parameters
    ----------
    private_key : PrivateKey
        From :meth:`PrivateKey.generate`.
    context : bytes
        What the proof is for.

    Raises
    ------
    InvalidKey
        If a prime of the key leaves 1 when divided by 4.
    """
    n, bits = private_key.public_key.n, private_key.public_key.bits
    non_residue = random_non_residue(n)
    negated = twisted = 0
    fourth_roots = []
    for i, number in enumerate(_modulus_challenges(n, non_residue, context)):
        for exponents in range(4):
            negate, twist = exponents & 1, exponents >> 1
            root = private_key.fourth_root(_twist(number, non_residue, negate, twist) % n)
            if root is not None:
                break
        negated |= negate << i
        twisted |= twist << i
        fourth_roots.append(root)
    group = _Group.fitting(bits)
    p, q = private_key.factors
    r, rho, tau = (secrets.randbelow(int(group.order)) for _ in range(3))
    alpha, beta = (secrets.randbits((bits + 1) // 2 + _SLACK) for _ in range(2))
    commitment = group.power(group.g, p) * group.power(group.h, r) % group.prime
    first = group.power(group.g, alpha) * group.power(group.h, rho) % group.prime
    second = group.power(commitment, beta) * group.power(group.h, tau) % group.prime
    e = _factor_challenge(n, context, group, commitment, first, second)
    return KeyProof(
        bits=bits,
        non_residue=non_residue,
        negated=negated,
        twisted=twisted,
        fourth_roots=tuple(fourth_roots),
        roots=tuple(private_key.nth_root(number) for number in _root_challenges(n, context)),
        commitment=commitment,
        challenge=e,
        factors=(alpha + e * p, beta + e * q),
        blinds=((rho + e * r) % group.order, (tau - e * r * q) % group.order),
    )


def verify_key(modulus: int, proof: KeyProof, context: bytes, minimum_bits: int = MINIMUM_BITS) -> PublicKey:
    """Check a modulus, and the proof that :func:`prove_key` made for it.

    Parameters
    ----------
    modulus : int
        The claimed modulus n.
    proof : KeyProof
        Its proof.
    context : bytes
        What the proof must be for.
    minimum_bits : int
        Shortest length to accept. Only tests lower it.

    Returns
    -------
    PublicKey
        The key with that modulus.

    Raises
    ------
    InvalidKey
        If the modulus has a wrong length, or is even, a prime or a perfect power.
    InvalidProof
        If the proof does not show that it is a product of two long primes with gcd(n, φ(n)) = 1.
    """
    key = PublicKey.from_modulus(modulus, minimum_bits)
    n = key.n
    if proof.bits != key.bits:
        raise InvalidProof(f"a proof for a modulus of {key.bits} bits was claimed, and it is for one of {proof.bits}")
    if (len(proof.fourth_roots), len(proof.roots)) != (_FOURTH_ROOTS, _ROOTS):
        raise InvalidProof(f"{_FOURTH_ROOTS} fourth roots and {_ROOTS} roots were to be shown, and others were")
    _require_units([proof.non_residue, *proof.fourth_roots, *proof.roots], n, n, "the proof of a key")
    if gcd(n, primorial(_SMALL_PRIMES)) != 1:
        raise InvalidProof("a modulus without small factors was claimed, and a prime below 2^16 divides it")
    if jacobi(proof.non_residue, n) != -1:
        raise InvalidProof("a number with Jacobi symbol -1 was claimed, and it has another")
    for i, (number, root) in enumerate(
        zip(_modulus_challenges(n, proof.non_residue, context), proof.fourth_roots, strict=True)
    ):
        twisted = _twist(number, proof.non_residue, proof.negated >> i & 1, proof.twisted >> i & 1)
        if (powmod(root, 4, n) - twisted) % n:
            raise InvalidProof(f"a product of two primes was claimed, and fourth root {i} is none of its challenge")
    for number, root in zip(_root_challenges(n, context), proof.roots, strict=True):
        if powmod(root, n, n) != number:
            raise InvalidProof("gcd(n, φ(n)) = 1 was claimed, and an n-th root is none of its challenge")
    _verify_factors(n, proof, context)
    return key


def _verify_factors(n: mpz, proof: KeyProof, context: bytes) -> None:
    group = _Group.fitting(proof.bits)
    commitment, e = proof.commitment, proof.challenge
    (z_1, z_2), (w_1, v) = proof.factors, proof.blinds
    if not (0 < commitment < group.prime and jacobi(commitment, group.prime) == 1):
        raise InvalidProof("a commitment in the group of squares was claimed, and it is outside")
    if not (0 <= z_1 < group.bound and 0 <= z_2 < group.bound):
        raise InvalidProof("two factors of half the length of the modulus were claimed, and an answer is too long")
    if not (0 <= w_1 < group.order and 0 <= v < group.order and 0 <= e < 1 << SECURITY):
        raise InvalidProof("a number in the proof of a key is not reduced")
    first = group.power(group.g, z_1) * group.power(group.h, w_1) * group.power(commitment, -e) % group.prime
    second = group.power(commitment, z_2) * group.power(group.h, v) * group.power(group.g, -n * e) % group.prime
    if _factor_challenge(n, context, group, commitment, first, second) != e:
        raise InvalidProof("knowledge of two long factors was claimed, and the answers do not fit the challenge")


def _twist(number: mpz, non_residue: mpz, negate: int, twist: int) -> mpz:
    return (-number if negate else number) * (non_residue if twist else 1)


def _modulus_challenges(n: mpz, non_residue: mpz, context: bytes) -> list[mpz]:
    seed = _digest("key modulus", context, _residue_bytes(n, n), _residue_bytes(non_residue, n))
    return _residues(seed, _FOURTH_ROOTS, n)


def _root_challenges(n: mpz, context: bytes) -> list[mpz]:
    return _residues(_digest("key roots", context, _residue_bytes(n, n)), _ROOTS, n)


@dataclass(frozen=True)
class _Group:
    """The group of squares modulo a safe prime, for moduli of some length."""

    prime: mpz
    order: mpz
    g: mpz
    h: mpz
    bound: mpz

    @classmethod
    def fitting(cls, bits: int) -> _Group:
        """Return the smallest group in which the proof about a modulus of `bits` bits holds over the integers."""
        bound_bits = (bits + 1) // 2 + _SLACK + 1
        length = _group_length(bits)
        mantissa, exponent = const_pi(length).as_mantissa_exp()
        pi = mantissa >> -(exponent + length - 130)
        prime = (mpz(1) << length) - (mpz(1) << length - 64) - 1 + ((pi + _RFC_3526[length]) << 64)
        (root,) = _residues(_digest("key group", _residue_bytes(prime, prime)), 1, prime)
        return cls(prime, (prime - 1) // 2, mpz(4), root * root % prime, mpz(1) << bound_bits)

    def power(self, base: mpz, exponent: int) -> mpz:
        return powmod(base, exponent, self.prime)


def _group_length(bits: int) -> int:
    # Q = (P − 1)/2 is above 2^(length − 2).
    return min(length for length in _RFC_3526 if length - 2 >= 2 * ((bits + 1) // 2 + _SLACK + 1) + 1)


def _factor_challenge(n: mpz, context: bytes, group: _Group, *elements: mpz) -> int:
    said = [_residue_bytes(element, group.prime) for element in elements]
    return _challenge(_digest("key factors", context, _residue_bytes(n, n), *said))


def _key_widths(bits: int) -> list[int]:
    width, group = (bits + 7) // 8, _group_length(bits) // 8
    answer = ((bits + 1) // 2 + _SLACK + 8) // 8
    numbers = [width] + 2 * [_FOURTH_ROOTS // 8] + (_FOURTH_ROOTS + _ROOTS) * [width]
    return [*numbers, group, _FIELD, answer, answer, group, group]


@dataclass(frozen=True)
class ProductProof:
    """A proof that ciphertexts hold the products of what others hold.

    See :func:`prove_products` for what the numbers are.

    Parameters
    ----------
    commitments : tuple of V mpz
        A_v: ciphertexts.
    product_commitment : mpz
        B: a ciphertext.
    answers : tuple of V mpz
        f_v in [0, n).
    roots : tuple of V mpz
        g_v in [1, n).
    product_root : mpz
        h in [1, n).
    """

    commitments: tuple[mpz, ...]
    product_commitment: mpz
    answers: tuple[mpz, ...]
    roots: tuple[mpz, ...]
    product_root: mpz

    def to_bytes(self, key: PublicKey) -> bytes:
        """Write all numbers one after the other, big-endian: ciphertexts as the key does, others in half its width."""
        numbers = (*self.commitments, self.product_commitment, *self.answers, *self.roots, self.product_root)
        return _join(numbers, _product_widths(len(self.answers), key))

    @classmethod
    def from_bytes(cls, data: bytes, vectors: int, key: PublicKey) -> ProductProof:
        """Read what :meth:`to_bytes` wrote.

        Parameters
        ----------
        data : bytes
            The proof.
        vectors : int
            V, how many vectors it is for.
        key : PublicKey
            The key of the ciphertexts.

        Raises
        ------
        InvalidProof
            If it has another length than proofs for so many vectors.
        """
        numbers = _split(data, _product_widths(vectors, key))
        return cls(
            commitments=_take(numbers, vectors),
            product_commitment=next(numbers),
            answers=_take(numbers, vectors),
            roots=_take(numbers, vectors),
            product_root=next(numbers),
        )


def prove_products(
    masked: Sequence[Sequence[mpz]],
    products: Sequence[Sequence[mpz]],
    opened: Sequence[Sequence[int]],
    private_key: PrivateKey,
    context: bytes,
) -> ProductProof:
    """Show that `products` hold the products of every two entries of each vector in `masked`.

    With 128-bit s_j and t_v (t_0 = 1) from the hash of all these ciphertexts, everybody can compute encryptions L_v of
    ℓ_v = Σ_j s_j·û_vj, and Q of q = Σ_v t_v·Σ_{j≤k} s_j·s_k·(2 if j ≠ k)·P_vjk, where P_vjk is what the product
    holds. If one of them is wrong modulo n, then it is modulo a prime p of n, and Σ_v t_v·ℓ_v² − q is a polynomial
    of degree 3 in s and t that is not 0 modulo p: it vanishes with probability 3·2^−128 (Schwartz 1980, Zippel 1979).

    That Σ_v t_v·ℓ_v² = q modulo n is shown by the multiplication protocol of Damgård and Jurik (*A generalisation, a
    simplification and some applications of Paillier's probabilistic public-key system*, PKC 2001, section 4.2),
    summed over the vectors: A_v encrypts a random x_v, and B encrypts Σ_v t_v·x_v·ℓ_v; then, for a hashed challenge e,
    f_v = x_v + e·ℓ_v mod n, the root g_v of A_v·L_v^e·(1 + n)^−f_v, and the root h of Π L_v^(t_v·f_v) / (B·Q^e).

    Why that is sound: let a_v and b be what A_v and B hold; they were fixed before e was known. The roots show that
    f_v = a_v + e·ℓ_v and Σ t_v·f_v·ℓ_v = b + e·q modulo n, so e·(Σ t_v·ℓ_v² − q) = b − Σ t_v·a_v·ℓ_v.
    If the bracket is not 0 modulo p, a single e modulo p fits, and p is longer than e (the key proof): 2^−128.
    Nothing has to be rewound.

    An honest proof is always accepted. It reveals nothing but that the statement is true: f_v, g_v and h are uniform,
    and A_v and B are computed from them and e. Of a *false* statement it would reveal by how much, and answering for
    ciphertexts that hold something else would decrypt them: therefore `opened` is compared with both beforehand, by
    decrypting one random combination.

    Parameters
    ----------
    masked : sequence of V sequences of d mpz
        Encryptions of û.
    products : sequence of V sequences of d(d + 1)/2 mpz
        Encryptions of û_j·û_k for j ≤ k, row after row, as `commons.protocol.evaluation.products` makes them.
    opened : sequence of V sequences of d int
        û.
    private_key : PrivateKey
        The key.
    context : bytes
        What the proof is for.

    Raises
    ------
    InvalidProof
        If `opened` is not what `masked` holds, or its products are not what `products` hold. Then nothing is shown.
    """
    key = private_key.public_key
    n = key.n
    _require_shape(masked, products)
    if [len(vector) for vector in opened] != [len(vector) for vector in masked]:
        raise InvalidProof("as many plaintexts as masked ciphertexts were claimed, and there are others")
    _require_units(chain(*masked, *products), key.n_squared, n, "what products are to be shown of")
    combination = _Combination.of(masked, products, key, context)
    *linear, quadratic = private_key.by_factors(lambda m: combination.apply(masked, products, m))
    secret = [sum(s * value for s, value in zip(combination.s, vector, strict=True)) for vector in opened]
    square = sum(t * value * value for t, value in zip(combination.t, secret, strict=True))
    weights = [secrets.randbits(SECURITY) for _ in secret]
    total = sum(weight * value for weight, value in zip(weights, secret, strict=True)) + square
    if (private_key.decrypt(linear_combination([*linear, quadratic], [*weights, 1], 0, key)) - total) % n:
        raise InvalidProof("the masked numbers and their products were claimed, and a ciphertext holds another number")
    x = [mpz(secrets.randbelow(int(n))) for _ in secret]
    mixed = sum(t * blind * value for t, blind, value in zip(combination.t, x, secret, strict=True))
    *commitments, product_commitment = private_key.encrypt_uniformly([*x, mixed])
    e = combination.challenge(commitments, product_commitment, key)
    answers = [(blind + e * value) % n for blind, value in zip(x, secret, strict=True)]
    # What is left is an n-th power, and modulo n that is all there is of a ciphertext.
    roots = [private_key.nth_root(a * powmod(own, e, n)) for a, own in zip(commitments, linear, strict=True)]
    rest = Products([[*(t * f for t, f in zip(combination.t, answers, strict=True)), -1, -e]])
    bases = [*linear, product_commitment, quadratic]
    (power,) = private_key.by_factors(lambda m: rest.compute([base % (m * m) for base in bases], [0], m))
    return ProductProof(
        commitments=tuple(commitments),
        product_commitment=product_commitment,
        answers=tuple(answers),
        roots=tuple(roots),
        product_root=private_key.nth_root(power),
    )


def verify_products(
    masked: Sequence[Sequence[mpz]],
    products: Sequence[Sequence[mpz]],
    proof: ProductProof,
    key: PublicKey,
    context: bytes,
) -> None:
    """Check the proof that :func:`prove_products` made for these ciphertexts.

    All its equations, A_v·L_v^e = (1 + n)^f_v·g_v^n and Π L_v^(t_v·f_v) = B·Q^e·h^n, are checked as one, each to the
    power of a hashed 128-bit number (the small exponents test, as in :func:`verify_openings`): wrong plaintexts
    cancel with probability 2^−128. A root may be off by an element of small order; there is still a root then.

    Parameters
    ----------
    masked, products : sequences
        As for :func:`prove_products`: what the verifier itself has of them.
    proof : ProductProof
        Their proof.
    key : PublicKey
        The key of the ciphertexts, from :func:`verify_key`: soundness rests on it.
    context : bytes
        What the proof must be for.

    Raises
    ------
    InvalidProof
        If the proof does not show that every product is what it is said to be.
    """
    n = key.n
    _require_shape(masked, products)
    vectors = len(masked)
    if not len(proof.commitments) == len(proof.answers) == len(proof.roots) == vectors:
        raise InvalidProof(f"a proof about {vectors} vectors was claimed, and it is about {len(proof.answers)}")
    commitments = [*proof.commitments, proof.product_commitment]
    _require_units(chain(*masked, *products, commitments), key.n_squared, n, "a proof of products")
    _require_units([*proof.roots, proof.product_root], n, n, "a proof of products")
    if not all(0 <= answer < n for answer in proof.answers):
        raise InvalidProof("an answer in a proof of products is not reduced modulo n")
    combination = _Combination.of(masked, products, key, context)
    e = combination.challenge(proof.commitments, proof.product_commitment, key)
    *linear, quadratic = combination.apply(masked, products, n)
    weights = _numbers(_digest("products weights", combination.seed, proof.to_bytes(key)), vectors)
    root = proof.product_root
    for weight, own in zip(weights, proof.roots, strict=True):
        root = root * powmod(own, weight, n) % n
    exponents = [
        *(t * f + e * weight for t, f, weight in zip(combination.t, proof.answers, weights, strict=True)),
        *weights,
        -1,
        -e,
        -n,
    ]
    claimed = sum(weight * answer for weight, answer in zip(weights, proof.answers, strict=True))
    if linear_combination([*linear, *commitments, quadratic, root], exponents, -claimed, key) != 1:
        raise InvalidProof(f"the products of {vectors} vectors were claimed, and a ciphertext holds another number")


@dataclass(frozen=True)
class _Combination:
    """The random combination in which all products are checked at once."""

    seed: bytes
    s: list[int]
    t: list[int]

    @classmethod
    def of(
        cls, masked: Sequence[Sequence[mpz]], products: Sequence[Sequence[mpz]], key: PublicKey, context: bytes
    ) -> _Combination:
        said = (key.encode(vector) for vector in chain(masked, products))
        seed = _digest("products combination", context, _residue_bytes(key.n, key.n), *said)
        length = len(masked[0])
        numbers = _numbers(seed, length + len(masked) - 1)
        return cls(seed, numbers[:length], [1, *numbers[length:]])

    def apply(self, masked: Sequence[Sequence[mpz]], products: Sequence[Sequence[mpz]], m: mpz) -> list[mpz]:
        """Return L_v for every v, and Q, modulo m² for m = n or one of its factors."""
        s, modulus = self.s, m * m
        linear = Products([s])
        # Vectors first, with short exponents that are recoded once; what remains is as long as one vector's.
        others = Products([self.t[1:]])
        columns = []
        for first, *rest in zip(*products, strict=True):
            (power,) = others.compute([base % modulus for base in rest], [0], m)
            columns.append(first * power % modulus)
        pairs = [s[j] * s[k] * (1 if j == k else 2) for j in range(len(s)) for k in range(j, len(s))]
        (quadratic,) = Products([pairs]).compute(columns, [0], m)
        return [*(linear.compute([base % modulus for base in v], [0], m)[0] for v in masked), quadratic]

    def challenge(self, commitments: Sequence[mpz], product_commitment: mpz, key: PublicKey) -> int:
        return _challenge(_digest("products challenge", self.seed, key.encode([*commitments, product_commitment])))


def _product_widths(vectors: int, key: PublicKey) -> list[int]:
    return (vectors + 1) * [key.ciphertext_bytes] + (2 * vectors + 1) * [_width(key.n)]


def _require_shape(masked: Sequence[Sequence[mpz]], products: Sequence[Sequence[mpz]]) -> None:
    length = len(masked[0]) if masked else 0
    shapes = [len(vector) for vector in chain(masked, products)]
    if not length or shapes != [length] * len(masked) + [length * (length + 1) // 2] * len(masked):
        raise InvalidProof(f"all products of vectors of {length} numbers were claimed, and there are others")


def _require_units(numbers: Iterable[mpz], modulus: mpz, n: mpz, where: str) -> None:
    product = mpz(1)
    for number in numbers:
        if not 0 < number < modulus:
            raise InvalidProof(f"reduced numbers were claimed, and one in {where} is not")
        product = product * number % n
    if gcd(product, n) != 1:
        raise InvalidProof(f"units were claimed, and a number in {where} shares a factor with the modulus")


def _width(number: mpz) -> int:
    return (int(number.bit_length()) + 7) // 8


def _residue_bytes(number: int, modulus: mpz) -> bytes:
    return number.to_bytes(_width(modulus), "big")


def _join(numbers: Iterable[int], widths: Iterable[int]) -> bytes:
    return b"".join(number.to_bytes(width, "big") for number, width in zip(numbers, widths, strict=True))


def _split(data: bytes, widths: Sequence[int]) -> Iterator[mpz]:
    if len(data) != sum(widths):
        raise InvalidProof(f"a proof of {sum(widths)} bytes was claimed, and it has {len(data)}")
    numbers, start = [], 0
    for width in widths:
        numbers.append(mpz.from_bytes(data[start : start + width], "big"))
        start += width
    return iter(numbers)


def _take(numbers: Iterator[mpz], count: int) -> tuple[mpz, ...]:
    return tuple(next(numbers) for _ in range(count))


def _digest(purpose: str, *items: bytes) -> bytes:
    """SHA-256 of the purpose and the items, each after its length in eight bytes."""
    hashed = sha256()
    for item in (f"DeltaML 1 {purpose}".encode(), *items):
        hashed.update(len(item).to_bytes(8, "big"))
        hashed.update(item)
    return hashed.digest()


def _expand(seed: bytes, count: int, width: int) -> Iterator[bytes]:
    """Return `count` independent strings of `width` bytes: hashes of the seed and a counter, one after the other."""
    size = sha256().digest_size
    for index in range(count):
        counters = range(index << 32, (index << 32) + -(-width // size))
        yield b"".join(_digest("expand", seed, counter.to_bytes(8, "big")) for counter in counters)[:width]


def _residues(seed: bytes, count: int, modulus: mpz) -> list[mpz]:
    """Return numbers below the modulus from strings that are 128 bits longer: within 2^−128 of uniform."""
    strings = _expand(seed, count, _width(modulus) + _FIELD)
    return [mpz.from_bytes(string, "big") % modulus for string in strings]


def _numbers(seed: bytes, count: int) -> list[int]:
    return [int.from_bytes(string, "big") for string in _expand(seed, count, _FIELD)]


def _challenge(digest: bytes) -> int:
    return int.from_bytes(digest[:_FIELD], "big")
