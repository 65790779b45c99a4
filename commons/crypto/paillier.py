"""The additively homomorphic cryptosystem of Paillier, on raw integers.

A ciphertext of ``m`` under the modulus ``n`` is ``(1 + n)^m · r^n mod n²``: Paillier, *Public-key
cryptosystems based on composite degree residuosity classes*, EUROCRYPT 1999, with the generator ``1 + n``
of Damgård and Jurik. Multiplying ciphertexts adds plaintexts; raising one to a constant multiplies its
plaintext. Ciphertexts are bare ``gmpy2.mpz`` in ``[1, n²)``: which scale a plaintext has, and that it is
signed, is known from the type of the message it travels in and is never attached to it.

python-paillier (``phe``) makes the keys and is the reference that the tests compare this module with.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from secrets import randbelow, token_bytes
from typing import Protocol

from gmpy2 import gcd, invert, is_power, is_prime, jacobi, mpz, powmod, powmod_base_list
from phe.util import getprimeover

from commons.crypto import residues
from commons.crypto.residues import FixedBases
from commons.errors import InvalidInput, VerificationFailed

MINIMUM_BITS = 2048
"""Shortest modulus that is accepted unless a caller (a test) names another minimum."""

MAXIMUM_BITS = 4096
"""Longest modulus that is accepted: beyond it a peer could stall us with arithmetic alone."""

# Longer windows need fewer multiplications, but their tables take longer to make, and fall out of caches.
_SHORT_WINDOW_BITS = 6
_UNIFORM_WINDOW_BITS = 5
_UNIFORM_BASES = 48

_READY = 2048
"""Uniform randomisers kept ready at most: 1.5 MB of them at 2048 bits."""


class InvalidKey(InvalidInput):
    """A public key that cannot be one of this protocol."""


class InvalidCiphertext(InvalidInput):
    """Bytes or numbers that are not ciphertexts under the key in use."""


class InvalidOpening(VerificationFailed):
    """A plaintext and randomiser that do not make the ciphertext they are said to open."""


@dataclass(frozen=True)
class PublicKey:
    """What anyone needs to encrypt, add and re-randomise.

    Build it with :meth:`from_modulus`, which checks the modulus.

    Parameters
    ----------
    n : mpz
        The modulus, a product of two secret primes of equal length.
    """

    n: mpz
    n_squared: mpz = field(init=False, repr=False, compare=False)
    bits: int = field(init=False, compare=False)
    ciphertext_bytes: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Derive the rest from the modulus."""
        object.__setattr__(self, "n", mpz(self.n))
        object.__setattr__(self, "n_squared", self.n * self.n)
        object.__setattr__(self, "bits", self.n.bit_length())
        object.__setattr__(self, "ciphertext_bytes", (2 * self.bits + 7) // 8)

    def __repr__(self) -> str:
        """Show the length only."""
        return f"PublicKey({self.bits} bits)"

    @classmethod
    def from_modulus(cls, n: int, minimum_bits: int = MINIMUM_BITS) -> PublicKey:
        """Check a modulus received from elsewhere and make a key of it.

        That n has no small factor and gcd(n, φ(n)) = 1 cannot be seen here: the key proof says so.

        Parameters
        ----------
        n : int
            The claimed modulus.
        minimum_bits : int
            Shortest length to accept. Only tests lower it.

        Raises
        ------
        InvalidKey
            If `n` is too short or too long, even, a prime or a perfect power.
        """
        modulus = mpz(n)
        bits = modulus.bit_length()
        if modulus < 0:
            raise InvalidKey("the modulus is not positive")
        if not minimum_bits <= bits <= MAXIMUM_BITS:
            raise InvalidKey(f"the modulus has {bits} bits instead of {minimum_bits} to {MAXIMUM_BITS}")
        if modulus % 2 == 0:
            raise InvalidKey("the modulus is even instead of a product of two large primes")
        if is_power(modulus) or is_prime(modulus):
            raise InvalidKey("the modulus is a prime or a perfect power instead of a product of two primes")
        return cls(modulus)

    def add(self, ciphertext: mpz, value: int) -> mpz:
        """Return ``ciphertext · (1 + n·value)``: an encryption of a sum, with the same randomiser.

        Parameters
        ----------
        ciphertext : mpz
            The encrypted term.
        value : int
            The public term, taken modulo n; negative values are allowed.
        """
        return residues.join(ciphertext, value, self.n)

    def trivial(self, value: int) -> mpz:
        """Return the ciphertext ``1 + n·value`` of `value`, which hides nothing: a constant to add.

        Parameters
        ----------
        value : int
            Plaintext, taken modulo n; negative values are allowed.
        """
        return 1 + self.n * (value % self.n)

    def encrypt(self, value: int, randomiser: mpz) -> mpz:
        """Encrypt `value` with the n-th power `randomiser` (from a :class:`Randomisers`).

        Parameters
        ----------
        value : int
            Plaintext, taken modulo n; negative values are allowed.
        randomiser : mpz
            A fresh n-th power modulo n².
        """
        return self.add(randomiser, value)

    def encode(self, ciphertexts: Iterable[mpz]) -> bytes:
        """Write ciphertexts one after the other, each big-endian in :attr:`ciphertext_bytes` bytes."""
        width = self.ciphertext_bytes
        return b"".join([ciphertext.to_bytes(width, "big") for ciphertext in ciphertexts])

    def decode(self, blob: bytes, count: int) -> list[mpz]:
        """Read `count` ciphertexts and check that each is a unit modulo n².

        Parameters
        ----------
        blob : bytes
            What :meth:`encode` wrote.
        count : int
            How many ciphertexts it must hold.

        Raises
        ------
        InvalidCiphertext
            If the length is wrong, or a number is 0, not below n², or shares a factor with n.
        """
        width = self.ciphertext_bytes
        if len(blob) != width * count:
            raise InvalidCiphertext(f"{len(blob)} bytes instead of {count} ciphertexts of {width} bytes")
        ciphertexts = [mpz.from_bytes(blob[start : start + width], "big") for start in range(0, len(blob), width)]
        product = mpz(1)
        for ciphertext in ciphertexts:
            if ciphertext >= self.n_squared:
                raise InvalidCiphertext("a ciphertext is not below the square of the modulus")
            product = product * (ciphertext % self.n) % self.n
        # One gcd for all: the product shares a factor with n exactly if one of them does.
        if gcd(product, self.n) != 1:
            raise InvalidCiphertext("a ciphertext is not coprime to the modulus")
        return ciphertexts


def _random_unit(n: mpz) -> mpz:
    # A number below n that is not coprime to it would be a factorisation: it does not happen.
    return mpz(randbelow(int(n) - 1) + 1)


def random_non_residue(n: mpz) -> mpz:
    """Draw a number below n with Jacobi symbol −1: no square, though it takes the factors to see it of a product.

    Parameters
    ----------
    n : mpz
        Odd, and no square.
    """
    while True:
        number = _random_unit(n)
        if jacobi(number, n) == -1:
            return number


class PrivateKey:
    """The factorisation of a modulus: decrypts, opens, and encrypts faster than the public key can.

    Parameters
    ----------
    p, q : int
        Two different odd primes of equal length.

    Raises
    ------
    InvalidKey
        If ``gcd(pq, (p−1)(q−1)) ≠ 1``, where decryption would not be unique.
    """

    def __init__(self, p: int, q: int) -> None:
        self._p, self._q = mpz(p), mpz(q)
        n = self._p * self._q
        if p == q or gcd(n, (self._p - 1) * (self._q - 1)) != 1:
            raise InvalidKey("the primes do not make a Paillier key: gcd(n, φ(n)) is not 1")
        self.public_key = PublicKey(n)
        self._p_squared, self._q_squared = self._p**2, self._q**2
        self._n_inverses = invert(n, self._p - 1), invert(n, self._q - 1)
        self._p_inverse = invert(self._p, self._q)
        self._p_squared_inverse = invert(self._p_squared, self._q_squared)
        # L_p((1 + n)^(p−1) mod p²)^−1 mod p: Paillier 1999, section 7, decryption by Chinese remainders.
        self._h_p = invert((self._p - 1) * self._q % self._p, self._p)
        self._h_q = invert((self._q - 1) * self._p % self._q, self._q)
        self._tables: tuple[FixedBases, FixedBases] | None = None
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        """Show the length only: the primes are secret."""
        return f"PrivateKey({self.public_key.bits} bits)"

    @classmethod
    def generate(cls, bits: int = MINIMUM_BITS) -> PrivateKey:
        """Draw a key from the operating system's randomness: a modulus of exactly `bits` bits.

        Its primes leave 3 when divided by 4, which is what a proof can show of a product of two (Blum, *Coin
        flipping by telephone*, 1981; `commons.crypto.proofs`).

        Parameters
        ----------
        bits : int
            Length of the modulus, even.
        """
        while True:
            p, q = _blum_prime(bits // 2), _blum_prime(bits // 2)
            try:
                key = cls(p, q)
            except InvalidKey:
                continue
            if key.public_key.bits == bits:
                return key

    @property
    def factors(self) -> tuple[mpz, mpz]:
        """The two primes, as secret as the key: for the proof that there are two and that they are long."""
        return self._p, self._q

    def to_bytes(self) -> bytes:
        """Write the two primes, for storage under another layer of encryption."""
        width = (max(self._p.bit_length(), self._q.bit_length()) + 7) // 8
        return bytes(self._p.to_bytes(width, "big") + self._q.to_bytes(width, "big"))

    @classmethod
    def from_bytes(cls, blob: bytes) -> PrivateKey:
        """Read what :meth:`to_bytes` wrote."""
        half = len(blob) // 2
        return cls(int.from_bytes(blob[:half], "big"), int.from_bytes(blob[half:], "big"))

    def decrypt(self, ciphertext: mpz) -> int:
        """Return the plaintext of `ciphertext`, in [0, n)."""
        p, q = self._p, self._q
        m_p = (powmod(ciphertext, p - 1, self._p_squared) - 1) // p * self._h_p % p
        m_q = (powmod(ciphertext, q - 1, self._q_squared) - 1) // q * self._h_q % q
        return int(m_p + p * ((m_q - m_p) * self._p_inverse % q))

    def decrypt_short(self, ciphertext: mpz) -> int:
        """Return the plaintext of `ciphertext` modulo one of the primes: the plaintext itself, if it is shorter.

        That it is, has to be checked elsewhere; this takes half the time of :meth:`decrypt`.
        """
        p = self._p
        return int((powmod(ciphertext, p - 1, self._p_squared) - 1) // p * self._h_p % p)

    def decrypt_signed(self, ciphertext: mpz) -> int:
        """Return the plaintext of `ciphertext`, in (−n/2, n/2)."""
        n = int(self.public_key.n)
        value = self.decrypt(ciphertext)
        return value - n if value > n // 2 else value

    def opening(self, ciphertext: mpz) -> tuple[int, int]:
        """Return the plaintext in [0, n) and the randomiser r in [1, n) of `ciphertext`.

        Whoever knows both can check ``ciphertext = (1 + n)^m · r^n mod n²`` without the private key.
        Modulo n the ciphertext is r^n alone, so r is its n-th root there.
        """
        return self.decrypt(ciphertext), int(self.nth_root(ciphertext))

    def nth_root(self, number: mpz) -> mpz:
        """Return the one n-th root modulo n of `number`."""
        p, q = self._p, self._q
        to_p, to_q = self._n_inverses
        return self._join(powmod(number % p, to_p, p), powmod(number % q, to_q, q))

    def fourth_root(self, number: mpz) -> mpz | None:
        """Return the fourth root modulo n of `number` that is a square itself, or None if `number` is no square.

        Modulo a prime p that leaves 3 when divided by 4, a square y has the square roots ±y^((p+1)/4), and the one
        with the plus is a square again.

        Raises
        ------
        InvalidKey
            If one of the primes leaves 1 when divided by 4.
        """
        p, q = self._p, self._q
        if p % 4 != 3 or q % 4 != 3:
            raise InvalidKey("a prime of the key leaves 1 instead of 3 when divided by 4")
        if jacobi(number, p) != 1 or jacobi(number, q) != 1:
            return None
        return self._join(*(powmod(number % m, ((m + 1) // 4) ** 2 % (m - 1), m) for m in (p, q)))

    def _join(self, modulo_p: mpz, modulo_q: mpz) -> mpz:
        return modulo_p + self._p * ((modulo_q - modulo_p) * self._p_inverse % self._q)

    def by_factors(self, compute: Callable[[mpz], Iterable[mpz]]) -> list[mpz]:
        """Return numbers modulo n² from what they are modulo p² and q²: Chinese remainders, as faster arithmetic.

        Parameters
        ----------
        compute : callable
            Given m, the numbers modulo m².
        """
        p_squared, q_squared, inverse = self._p_squared, self._q_squared, self._p_squared_inverse
        return [
            modulo_p + p_squared * ((modulo_q - modulo_p) * inverse % q_squared)
            for modulo_p, modulo_q in zip(compute(self._p), compute(self._q), strict=True)
        ]

    def encrypt(self, values: Iterable[int]) -> list[mpz]:
        """Encrypt signed integers, each with a fresh randomiser h^α modulo p² and q².

        Parameters
        ----------
        values : iterable of int
            Plaintexts, taken modulo n.
        """
        with self._lock:
            if self._tables is None:
                x = random_non_residue(self.public_key.n)
                self._tables = (
                    _short_tables(x, self._p, self.public_key),
                    _short_tables(x, self._q, self.public_key),
                )
        tables = dict(zip(self.factors, self._tables, strict=True))
        plaintexts = list(values)
        exponents = [token_bytes(self._tables[0].digits) for _ in plaintexts]
        powers = self.by_factors(lambda m: [tables[m].power(digits) for digits in exponents])
        return [self.public_key.encrypt(value, power) for value, power in zip(plaintexts, powers, strict=True)]

    def encrypt_uniformly(self, values: Iterable[int]) -> list[mpz]:
        """Encrypt as :meth:`encrypt` does, with uniform n-th powers: for numbers that mask others in a proof.

        Modulo p² the n-th powers are the p-th powers, each of one residue modulo p.

        Parameters
        ----------
        values : iterable of int
            Plaintexts, taken modulo n.
        """
        plaintexts = list(values)
        units = [_random_unit(self.public_key.n) for _ in plaintexts]
        powers = self.by_factors(lambda m: [powmod(unit, m, m * m) for unit in units])
        return [self.public_key.encrypt(value, power) for value, power in zip(plaintexts, powers, strict=True)]


def _blum_prime(bits: int) -> int:
    while True:
        prime: int = getprimeover(bits)
        if prime % 4 == 3:
            return prime


def _short_tables(x: mpz, m: mpz, public_key: PublicKey) -> FixedBases:
    """Tables of h = x^n modulo m², for m = n or one of its factors.

    x must have Jacobi symbol −1 modulo n. Everyone can compute that symbol of a ciphertext, and it is multiplicative:
    randomisers that are squares would leave it as it is, and whoever sends ciphertexts with symbol −1 would read from
    the answers whether the coefficients of a linear map are even or odd. The symbol of h^α is −1 for every odd α.

    Exponents have four times the bits of the key's strength (112 at 2048 bits, 128 at 3072): a generic
    search for one takes the square root of their number, and this leaves as much again.
    """
    strength = 112 if public_key.bits <= 2048 else 128
    windows = -(-4 * strength // _SHORT_WINDOW_BITS)
    return FixedBases([powmod(x, public_key.n, m * m)], m, windows, _SHORT_WINDOW_BITS)


class Randomisers(Protocol):
    """A source of fresh n-th powers modulo n²: multiplying by one hides where a ciphertext came from."""

    def take(self, count: int) -> list[mpz]:
        """Return `count` n-th powers that nobody else has been or will be given."""


class ShortRandomisers:
    """Randomisers h^α with h = x^n for a secret random x of Jacobi symbol −1 and a fresh short α, from tables.

    They hide a ciphertext's history from whoever does not know the factors of n: Damgård, Jurik and Nielsen,
    *A generalization of Paillier's public-key system with applications to electronic voting*, International
    Journal of Information Security 9 (2010), section 4.2. There h is made of a square, which leaves the Jacobi
    symbol of a ciphertext as it is: answers would show whether the coefficients of a linear map are even or odd.
    Data owners use them. They do not hide anything from the holder of the private key; that is what
    :class:`UniformRandomisers` are for.

    Parameters
    ----------
    public_key : PublicKey
        The key to make randomisers for.
    """

    def __init__(self, public_key: PublicKey) -> None:
        self._tables = _short_tables(random_non_residue(public_key.n), public_key.n, public_key)

    def take(self, count: int) -> list[mpz]:
        """Return `count` fresh h^α modulo n²."""
        return [self._tables.power(token_bytes(self._tables.digits)) for _ in range(count)]


class UniformRandomisers:
    """Uniform n-th powers, computed ahead of their use by a background thread.

    The key owner knows the factors, so towards it only a uniform n-th power hides a ciphertext's history.
    The first are r^n for uniform r (computed with the interpreter lock released). They are handed out, and the
    first 48 of them are kept as the bases g_i of tables for all later ones, Πg_i^e_i with fresh uniform
    exponents that together are 128 bits longer than n: about seven times faster. By the leftover hash lemma
    (Impagliazzo, Levin and Luby, *Pseudo-random generation from one-way functions*, STOC 1989) such a product
    is within 2^−64 of uniform among the powers that the g_i generate, even for someone who knows the g_i; and
    they generate all n-th powers but for the chance, below 2^−46 whatever the factors of n, that all 48 lie
    in one proper subgroup. The root of such a product modulo n is the product of the roots of the g_i.

    Parameters
    ----------
    public_key : PublicKey
        The key to make randomisers for.
    count : int
        How many to compute ahead; all that are asked for beyond are computed on the spot.
    """

    def __init__(self, public_key: PublicKey, count: int = 64) -> None:
        self._public_key = public_key
        self._to_come = count
        self._ready: deque[tuple[mpz, mpz]] = deque()
        self._bases: list[tuple[mpz, mpz]] = []
        self._tables: FixedBases | None = None
        self._root_tables: list[list[mpz]] = []
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._fill, name="randomisers", daemon=True)
        self._thread.start()

    def take(self, count: int) -> list[mpz]:
        """Return `count` fresh r^n modulo n²; those that are not ready are computed on the spot."""
        return [power for power, _ in self.take_with_roots(count)]

    def take_with_roots(self, count: int) -> list[tuple[mpz, mpz]]:
        """Return `count` fresh r^n modulo n², each with its r modulo n: to show later what was multiplied by."""
        with self._changed:
            taken = [self._ready.popleft() for _ in range(min(count, len(self._ready)))]
            self._changed.notify()
        return taken + self._powers(count - len(taken))

    def close(self) -> None:
        """Stop the background thread; `take` still works, computing on the spot."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _powers(self, count: int) -> list[tuple[mpz, mpz]]:
        key = self._public_key
        if self._tables is None and len(self._bases) >= _UNIFORM_BASES:
            windows = -(-(key.bits + 128) // (_UNIFORM_BASES * _UNIFORM_WINDOW_BITS))
            powers, roots = zip(*self._bases[:_UNIFORM_BASES], strict=True)
            self._root_tables = _root_tables(roots, key.n, windows)
            self._tables = FixedBases(powers, key.n, windows, _UNIFORM_WINDOW_BITS)
        if self._tables is not None:
            exponents = [token_bytes(self._tables.digits) for _ in range(count)]
            return [(self._tables.power(digits), self._root(digits)) for digits in exponents]
        units = [_random_unit(key.n) for _ in range(count)]
        pairs = list(zip(powmod_base_list(units, key.n, key.n_squared), units, strict=True)) if units else []
        self._bases += pairs
        return pairs

    def _root(self, digits: bytes) -> mpz:
        product, n, digit_mask = mpz(1), self._public_key.n, (1 << _UNIFORM_WINDOW_BITS) - 1
        for table, digit in zip(self._root_tables, digits, strict=True):
            product = product * table[digit & digit_mask] % n
        return product

    def _fill(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or len(self._ready) < _READY)
                if self._closed or self._to_come == 0:
                    return
                self._to_come -= 1
            pair = self._powers(1)
            with self._changed:
                self._ready.extend(pair)


def _root_tables(roots: Iterable[mpz], n: mpz, windows: int) -> list[list[mpz]]:
    """Tables modulo n as `FixedBases` has them modulo n²: of each root and window, every multiple of the exponent."""
    tables = []
    for root in roots:
        unit = root
        for _ in range(windows):
            powers = [mpz(1)]
            while len(powers) < 1 << _UNIFORM_WINDOW_BITS:
                powers.append(powers[-1] * unit % n)
            tables.append(powers)
            unit = powers[-1] * unit % n
    return tables
