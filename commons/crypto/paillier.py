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
from collections.abc import Iterable
from dataclasses import dataclass, field
from secrets import randbelow, token_bytes
from typing import Protocol

import phe
from gmpy2 import gcd, invert, is_power, is_prime, mpz, powmod, powmod_base_list

from commons.crypto import residues
from commons.crypto.residues import FixedBases
from commons.errors import InvalidInput, VerificationFailed

MINIMUM_BITS = 2048
"""Shortest modulus that is accepted unless a caller (a test) names another minimum."""

MAXIMUM_BITS = 8192
"""Longest modulus that is accepted: beyond it a peer could stall us with arithmetic alone."""

# Longer windows need fewer multiplications, but their tables take longer to make, and fall out of caches.
_SHORT_WINDOW_BITS = 6
_UNIFORM_WINDOW_BITS = 5
_UNIFORM_BASES = 48


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
        """Draw a key from the operating system's randomness.

        Parameters
        ----------
        bits : int
            Length of the modulus, even.
        """
        while True:
            _, key = phe.generate_paillier_keypair(n_length=bits)
            try:
                return cls(key.p, key.q)
            except InvalidKey:
                continue

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
        p, q, n = self._p, self._q, self.public_key.n
        r_p = powmod(ciphertext % p, invert(n, p - 1), p)
        r_q = powmod(ciphertext % q, invert(n, q - 1), q)
        return self.decrypt(ciphertext), int(r_p + p * ((r_q - r_p) * self._p_inverse % q))

    def encrypt(self, values: Iterable[int]) -> list[mpz]:
        """Encrypt signed integers, each with a fresh randomiser h^α modulo p² and q².

        Parameters
        ----------
        values : iterable of int
            Plaintexts, taken modulo n.
        """
        with self._lock:
            if self._tables is None:
                x = _random_unit(self.public_key.n)
                self._tables = (
                    _short_tables(x, self._p, self.public_key),
                    _short_tables(x, self._q, self.public_key),
                )
        modulo_p, modulo_q = self._tables
        ciphertexts = []
        for value in values:
            digits = token_bytes(modulo_p.digits)
            power, other = modulo_p.power(digits), modulo_q.power(digits)
            power += self._p_squared * ((other - power) * self._p_squared_inverse % self._q_squared)
            ciphertexts.append(self.public_key.encrypt(value, power))
        return ciphertexts


def _short_tables(x: mpz, m: mpz, public_key: PublicKey) -> FixedBases:
    """Tables of h = x^(2n) modulo m², for m = n or one of its factors.

    Exponents have four times the bits of the key's strength (112 at 2048 bits, 128 at 3072): a generic
    search for one takes the square root of their number, and this leaves as much again.
    """
    strength = 112 if public_key.bits <= 2048 else 128
    windows = -(-4 * strength // _SHORT_WINDOW_BITS)
    return FixedBases([powmod(x, 2 * public_key.n, m * m)], m, windows, _SHORT_WINDOW_BITS)


class Randomisers(Protocol):
    """A source of fresh n-th powers modulo n²: multiplying by one hides where a ciphertext came from."""

    def take(self, count: int) -> list[mpz]:
        """Return `count` n-th powers that nobody else has been or will be given."""


class ShortRandomisers:
    """Randomisers h^α with h = x^(2n) for a secret random x and a fresh short α, from tables.

    They hide a ciphertext's history from whoever does not know the factors of n: Damgård, Jurik and Nielsen,
    *A generalization of Paillier's public-key system with applications to electronic voting*, International
    Journal of Information Security 9 (2010), section 4.2. Data owners use them. They do not hide anything
    from the holder of the private key; that is what :class:`UniformRandomisers` are for.

    Parameters
    ----------
    public_key : PublicKey
        The key to make randomisers for.
    """

    def __init__(self, public_key: PublicKey) -> None:
        self._tables = _short_tables(_random_unit(public_key.n), public_key.n, public_key)

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
    in one proper subgroup.

    Parameters
    ----------
    public_key : PublicKey
        The key to make randomisers for.
    target : int
        How many to keep ready.
    """

    def __init__(self, public_key: PublicKey, target: int = 16) -> None:
        self._public_key = public_key
        self._target = target
        self._ready: deque[mpz] = deque()
        self._bases: list[mpz] = []
        self._tables: FixedBases | None = None
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._fill, name="randomisers", daemon=True)
        self._thread.start()

    def take(self, count: int) -> list[mpz]:
        """Return `count` fresh r^n modulo n²; those that are not ready are computed on the spot."""
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

    def _powers(self, count: int) -> list[mpz]:
        key = self._public_key
        if self._tables is None and len(self._bases) >= _UNIFORM_BASES:
            windows = -(-(key.bits + 128) // (_UNIFORM_BASES * _UNIFORM_WINDOW_BITS))
            self._tables = FixedBases(self._bases[:_UNIFORM_BASES], key.n, windows, _UNIFORM_WINDOW_BITS)
        if self._tables is not None:
            return [self._tables.power(token_bytes(self._tables.digits)) for _ in range(count)]
        units = [_random_unit(key.n) for _ in range(count)]
        powers: list[mpz] = powmod_base_list(units, key.n, key.n_squared) if units else []
        self._bases += powers
        return powers

    def _fill(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or len(self._ready) < self._target)
                if self._closed:
                    return
            power = self._powers(1)
            with self._changed:
                self._ready.extend(power)
