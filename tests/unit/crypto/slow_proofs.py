"""The proofs of `commons.crypto.proofs` once more, from their description alone: plain integers, one power at a time.

It makes and checks the bytes that travel, and shares no code with what it is compared with. Run as a module it writes
the known answers: ``python -m tests.unit.crypto.slow_proofs``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from math import gcd
from pathlib import Path
from random import Random

VECTORS = Path(__file__).with_name("proof_vectors.json")

GROUPS = {1536: 741804, 2048: 124476, 3072: 1690314, 4096: 240904, 6144: 929484}


def jacobi(a: int, n: int) -> int:
    """Handbook of Applied Cryptography, algorithm 2.149."""
    a, sign = a % n, 1
    while a:
        while a % 2 == 0:
            a //= 2
            if n % 8 in (3, 5):
                sign = -sign
        a, n = n, a
        if a % 4 == n % 4 == 3:
            sign = -sign
        a %= n
    return sign if n == 1 else 0


def pi_bits(bits: int) -> int:
    """⌊2^bits·π⌋ by Machin's formula."""
    unit = 1 << bits + 64

    def arctan(x: int) -> int:
        term = unit // x
        total, k = term, 1
        while term:
            term //= x * x
            total += (-1) ** k * (term // (2 * k + 1))
            k += 1
        return total

    return 4 * (4 * arctan(5) - arctan(239)) >> 64


def digest(purpose: str, *items: bytes) -> bytes:
    text = b""
    for item in [b"DeltaML 1 " + purpose.encode(), *items]:
        text += len(item).to_bytes(8, "big") + item
    return sha256(text).digest()


def string(seed: bytes, index: int, width: int) -> bytes:
    text, counter = b"", index * 2**32
    while len(text) < width:
        text += digest("expand", seed, counter.to_bytes(8, "big"))
        counter += 1
    return text[:width]


def hashed_below(seed: bytes, index: int, modulus: int) -> int:
    return int.from_bytes(string(seed, index, (modulus.bit_length() + 7) // 8 + 16), "big") % modulus


def fixed(number: int, modulus: int) -> bytes:
    return number.to_bytes((modulus.bit_length() + 7) // 8, "big")


@dataclass
class Reader:
    data: bytes

    def number(self, width: int) -> int:
        head, self.data = self.data[:width], self.data[width:]
        return int.from_bytes(head, "big")

    def numbers(self, count: int, width: int) -> list[int]:
        return [self.number(width) for _ in range(count)]


def group(bits: int) -> tuple[int, int, int]:
    """P, Q and h for moduli of some even length."""
    size = min(k for k in GROUPS if k - 2 >= bits + 515)
    prime = 2**size - 2 ** (size - 64) - 1 + 2**64 * (pi_bits(size - 130) + GROUPS[size])
    h = hashed_below(digest("key group", fixed(prime, prime)), 0, prime)
    return prime, (prime - 1) // 2, h * h % prime


@dataclass
class SlowKey:
    """The numbers of a key proof, under the names of its docstring."""

    w: int
    a: list[int]
    b: list[int]
    x: list[int]
    z: list[int]
    C: int
    e: int
    z1: int
    z2: int
    w1: int
    v: int

    def to_bytes(self, n: int) -> bytes:
        bits = n.bit_length()
        prime, _, _ = group(bits)
        bound = (1 << bits // 2 + 257) - 1
        flags = [sum(bit << i for i, bit in enumerate(each)).to_bytes(16, "big") for each in (self.a, self.b)]
        return b"".join(
            [
                fixed(self.w, n),
                *flags,
                *(fixed(root, n) for root in self.x),
                *(fixed(root, n) for root in self.z),
                fixed(self.C, prime),
                self.e.to_bytes(16, "big"),
                fixed(self.z1, bound),
                fixed(self.z2, bound),
                fixed(self.w1, prime),
                fixed(self.v, prime),
            ]
        )


def modulus_challenges(n: int, w: int, context: bytes) -> list[int]:
    seed = digest("key modulus", context, fixed(n, n), fixed(w, n))
    return [hashed_below(seed, i, n) for i in range(128)]


def root_challenges(n: int, context: bytes) -> list[int]:
    seed = digest("key roots", context, fixed(n, n))
    return [hashed_below(seed, i, n) for i in range(8)]


def factor_challenge(n: int, context: bytes, prime: int, *elements: int) -> int:
    seed = digest("key factors", context, fixed(n, n), *(fixed(element, prime) for element in elements))
    return int.from_bytes(seed[:16], "big")


def crt(residues: Sequence[int], primes: Sequence[int]) -> int:
    n = 1
    for prime in primes:
        n *= prime
    return sum(r * (n // m) * pow(n // m, -1, m) for r, m in zip(residues, primes, strict=True)) % n


def non_residue(n: int, random: Random) -> int:
    return next(w for w in iter(lambda: random.randrange(1, n), 0) if jacobi(w, n) == -1)


def fourth_root(y: int, primes: Sequence[int]) -> int | None:
    if any(jacobi(y, m) != 1 for m in primes):
        return None
    roots = []
    for m in primes:
        root = y % m
        for _ in range(2):
            root = square_root(root, m)
            if jacobi(root, m) != 1:
                root = m - root
            if jacobi(root, m) != 1:
                return None
        roots.append(root)
    return crt(roots, primes)


def square_root(y: int, m: int) -> int:
    """Of a square modulo a prime (Cipolla; y^((m + 1)/4) where that is one)."""
    if m % 4 == 3:
        return pow(y, (m + 1) // 4, m)
    a = next(a for a in range(m) if jacobi(a * a - y, m) == -1)
    non = (a * a - y) % m
    result, base, exponent = (1, 0), (a, 1), (m + 1) // 2
    while exponent:
        if exponent & 1:
            result = (
                (result[0] * base[0] + result[1] * base[1] * non) % m,
                (result[0] * base[1] + result[1] * base[0]) % m,
            )
        base = (base[0] * base[0] + base[1] * base[1] * non) % m, 2 * base[0] * base[1] % m
        exponent >>= 1
    return result[0]


def prove_modulus(primes: Sequence[int], context: bytes, random: Random) -> tuple[int, list[int], list[int], list[int]]:
    """w, a, b and x; 1 stands where there is no fourth root."""
    n = 1
    for prime in primes:
        n *= prime
    w = non_residue(n, random)
    a, b, x = [], [], []
    for y in modulus_challenges(n, w, context):
        candidates = [(i, j, fourth_root((-1) ** i * w**j * y % n, primes)) for j in (0, 1) for i in (0, 1)]
        i, j, root = next((each for each in candidates if each[2]), (0, 0, 1))
        a.append(i)
        b.append(j)
        x.append(root or 1)
    return w, a, b, x


def prove_roots(primes: Sequence[int], context: bytes) -> list[int]:
    """n-th roots, and 1 where there is none."""
    n = 1
    for prime in primes:
        n *= prime
    phi = 1
    for prime in primes:
        phi *= prime - 1
    if gcd(n, phi) != 1:
        return [1] * 8
    return [pow(y, pow(n, -1, phi), n) for y in root_challenges(n, context)]


def prove_factors(p: int, q: int, context: bytes, random: Random) -> tuple[int, int, int, int, int, int]:
    """C, e, z₁, z₂, w₁ and v, whatever the lengths of p and q."""
    n = p * q
    bits = n.bit_length()
    prime, order, h = group(bits)
    r, rho, tau = (random.randrange(order) for _ in range(3))
    alpha, beta = (random.randrange(1 << bits // 2 + 256) for _ in range(2))
    C = pow(4, p, prime) * pow(h, r, prime) % prime
    A = pow(4, alpha, prime) * pow(h, rho, prime) % prime
    D = pow(C, beta, prime) * pow(h, tau, prime) % prime
    e = factor_challenge(n, context, prime, C, A, D)
    return C, e, alpha + e * p, beta + e * q, (rho + e * r) % order, (tau - e * r * q) % order


def prove_key(p: int, q: int, context: bytes, random: Random) -> SlowKey:
    w, a, b, x = prove_modulus([p, q], context, random)
    return SlowKey(w, a, b, x, prove_roots([p, q], context), *prove_factors(p, q, context, random))


def key_holds(n: int, data: bytes, context: bytes) -> bool:
    bits = n.bit_length()
    width = (bits + 7) // 8
    prime, order, h = group(bits)
    size, answer = (prime.bit_length() + 7) // 8, (bits // 2 + 257 + 7) // 8
    if len(data) != 137 * width + 48 + 2 * answer + 3 * size:
        return False
    reader = Reader(data)
    w, a, b = reader.number(width), reader.number(16), reader.number(16)
    x, z = reader.numbers(128, width), reader.numbers(8, width)
    C, e, z1, z2 = reader.number(size), reader.number(16), reader.number(answer), reader.number(answer)
    w1, v = reader.number(size), reader.number(size)
    if n % 2 == 0 or any(not 0 < number < n or gcd(number, n) > 1 for number in [w, *x, *z]) or jacobi(w, n) != -1:
        return False
    if any(n % small == 0 for small in range(3, 1 << 16, 2)):
        return False
    for i, (y, root) in enumerate(zip(modulus_challenges(n, w, context), x, strict=True)):
        if pow(root, 4, n) != (-1) ** (a >> i & 1) * w ** (b >> i & 1) * y % n:
            return False
    if any(pow(root, n, n) != y for y, root in zip(root_challenges(n, context), z, strict=True)):
        return False
    bound = 1 << bits // 2 + 257
    if not (0 < C < prime and pow(C, order, prime) == 1 and max(z1, z2) < bound and max(w1, v) < order):
        return False
    return factors_hold(n, C, e, z1, z2, w1, v, context)


def factors_hold(n: int, C: int, e: int, z1: int, z2: int, w1: int, v: int, context: bytes) -> bool:
    """The equations in the group, whatever the size of the answers."""
    prime, _, h = group(n.bit_length())
    A = pow(4, z1, prime) * pow(h, w1, prime) * pow(C, -e, prime) % prime
    D = pow(C, z2, prime) * pow(h, v, prime) * pow(4, -n * e, prime) % prime
    return factor_challenge(n, context, prime, C, A, D) == e


def encrypt(m: int, r: int, n: int) -> int:
    return (1 + m * n) * pow(r, n, n * n) % (n * n)


def unit(n: int, random: Random) -> int:
    return next(r for r in iter(lambda: random.randrange(1, n), 0) if gcd(r, n) == 1)


def combination(
    masked: Sequence[Sequence[int]], products: Sequence[Sequence[int]], n: int, context: bytes
) -> tuple[bytes, list[int], list[int]]:
    said = [b"".join(fixed(c, n * n) for c in vector) for vector in [*masked, *products]]
    seed = digest("products combination", context, fixed(n, n), *said)
    d = len(masked[0])
    numbers = [int.from_bytes(string(seed, i, 16), "big") for i in range(d + len(masked) - 1)]
    return seed, numbers[:d], [1, *numbers[d:]]


def pairs(d: int) -> Iterator[tuple[int, int]]:
    return ((j, k) for j in range(d) for k in range(j, d))


def combine(
    masked: Sequence[Sequence[int]], products: Sequence[Sequence[int]], s: list[int], t: list[int], n: int
) -> tuple[list[int], int]:
    linear = []
    for vector in masked:
        product = 1
        for exponent, c in zip(s, vector, strict=True):
            product = product * pow(c, exponent, n * n) % (n * n)
        linear.append(product)
    Q = 1
    for weight, row in zip(t, products, strict=True):
        for (j, k), c in zip(pairs(len(s)), row, strict=True):
            Q = Q * pow(c, weight * s[j] * s[k] * (1 if j == k else 2), n * n) % (n * n)
    return linear, Q


def products_challenge(seed: bytes, A: Sequence[int], B: int, n: int) -> int:
    said = b"".join(fixed(c, n * n) for c in [*A, B])
    return int.from_bytes(digest("products challenge", seed, said)[:16], "big")


def prove_products(
    masked: Sequence[Sequence[int]],
    products: Sequence[Sequence[int]],
    opened: Sequence[Sequence[int]],
    p: int,
    q: int,
    context: bytes,
    random: Random,
) -> bytes:
    """A proof as the honest prover makes it, of whatever statement."""
    n = p * q
    seed, s, t = combination(masked, products, n, context)
    linear, Q = combine(masked, products, s, t, n)
    ell = [sum(weight * value for weight, value in zip(s, vector, strict=True)) for vector in opened]
    x = [random.randrange(n) for _ in ell]
    A = [encrypt(value, unit(n, random), n) for value in x]
    B = encrypt(sum(w * a * b for w, a, b in zip(t, x, ell, strict=True)), unit(n, random), n)
    e = products_challenge(seed, A, B, n)
    to = pow(n, -1, (p - 1) * (q - 1))
    f = [(a + e * b) % n for a, b in zip(x, ell, strict=True)]
    g = [pow(a * pow(L, e, n), to, n) for a, L in zip(A, linear, strict=True)]
    rest = pow(B * pow(Q, e, n), -1, n)
    for L, weight, answer in zip(linear, t, f, strict=True):
        rest = rest * pow(L, weight * answer, n) % n
    return products_bytes(A, B, f, g, pow(rest, to, n), n)


def products_bytes(A: Sequence[int], B: int, f: Sequence[int], g: Sequence[int], h: int, n: int) -> bytes:
    return b"".join([*(fixed(c, n * n) for c in [*A, B]), *(fixed(number, n) for number in [*f, *g, h])])


def products_hold(
    masked: Sequence[Sequence[int]], products: Sequence[Sequence[int]], data: bytes, n: int, context: bytes
) -> bool:
    """Every equation by itself."""
    square, count, width = n * n, len(masked), (n.bit_length() + 7) // 8
    wide = (square.bit_length() + 7) // 8
    if len(data) != (count + 1) * wide + (2 * count + 1) * width:
        return False
    reader = Reader(data)
    A, B = reader.numbers(count, wide), reader.number(wide)
    f, g, h = reader.numbers(count, width), reader.numbers(count, width), reader.number(width)
    if any(not 0 < c < square or gcd(c, n) > 1 for c in [*A, B]) or max(f) >= n:
        return False
    if any(not 0 < root < n or gcd(root, n) > 1 for root in [*g, h]):
        return False
    seed, _, _ = combination(masked, products, n, context)
    return products_fit(masked, products, data, n, context, products_challenge(seed, A, B, n))


def products_fit(
    masked: Sequence[Sequence[int]], products: Sequence[Sequence[int]], data: bytes, n: int, context: bytes, e: int
) -> bool:
    """The equations, for any challenge."""
    square, count, width = n * n, len(masked), (n.bit_length() + 7) // 8
    reader = Reader(data)
    A, B = reader.numbers(count, (square.bit_length() + 7) // 8), reader.number((square.bit_length() + 7) // 8)
    f, g, h = reader.numbers(count, width), reader.numbers(count, width), reader.number(width)
    _, s, t = combination(masked, products, n, context)
    linear, Q = combine(masked, products, s, t, n)
    left = 1
    for a, L, weight, answer, root in zip(A, linear, t, f, g, strict=True):
        if a * pow(L, e, square) % square != encrypt(answer, root, n):
            return False
        left = left * pow(L, weight * answer, square) % square
    return left == B * pow(Q, e, square) * pow(h, n, square) % square


def is_prime(number: int, random: Random) -> bool:
    """Miller and Rabin's test, 20 times."""
    if any(number % small == 0 for small in (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)):
        return False
    odd, twos = number - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for _ in range(20):
        power = pow(random.randrange(2, number - 1), odd, number)
        if power not in (1, number - 1) and all(pow(power, 2**i, number) != number - 1 for i in range(1, twos)):
            return False
    return True


def prime(bits: int, random: Random, leaves: int = 3) -> int:
    """A prime with its two highest bits set, so that products have exactly as many bits as their factors together."""
    while True:
        number = random.getrandbits(bits) | 3 << bits - 2
        number += (leaves - number) % 4
        if number.bit_length() == bits and is_prime(number, random):
            return number


def with_divisor(divisor: int, bits: int, random: Random) -> int:
    """A prime of `bits` bits that leaves 3 when divided by 4, and 1 when divided by `divisor`."""
    low, high = (3 << bits - 2) // divisor, (1 << bits) // divisor
    while True:
        number = 1 + random.randrange(low + 1, high) * divisor
        if number % 4 == 3 and is_prime(number, random):
            return number


def known_answers() -> dict[str, object]:
    random = Random(20)
    small, large = ([prime(bits, random), prime(bits, random)] for bits in (256, 1024))
    while gcd(small[0] * small[1], (small[0] - 1) * (small[1] - 1)) > 1:
        small = [prime(256, random), prime(256, random)]
    keys = []
    for p, q in (small, large):
        context = f"key of {(p * q).bit_length()} bits".encode()
        proof = prove_key(p, q, context, random)
        keys.append(
            {
                "p": hex(p),
                "q": hex(q),
                "context": context.hex(),
                "group": [hex(number) for number in group((p * q).bit_length())],
                "modulus_challenges": [hex(y) for y in modulus_challenges(p * q, proof.w, context)[:2]],
                "root_challenges": [hex(y) for y in root_challenges(p * q, context)[:2]],
                "factor_challenge": hex(proof.e),
                "proof": proof.to_bytes(p * q).hex(),
            }
        )
    products = []
    p, q = small
    n = p * q
    for count, d in ((1, 1), (1, 3), (3, 2)):
        context = f"{count} vectors of {d}".encode()
        opened = [[random.randrange(1 << 168) for _ in range(d)] for _ in range(count)]
        masked = [[encrypt(value, unit(n, random), n) for value in vector] for vector in opened]
        rows = [[encrypt(v[j] * v[k], unit(n, random), n) for j, k in pairs(d)] for v in opened]
        data = prove_products(masked, rows, opened, p, q, context, random)
        seed, s, t = combination(masked, rows, n, context)
        wide = 128
        reader = Reader(data)
        e = products_challenge(seed, reader.numbers(count, wide), reader.number(wide), n)
        products.append(
            {
                "context": context.hex(),
                "opened": [[hex(number) for number in vector] for vector in opened],
                "masked": [[hex(number) for number in vector] for vector in masked],
                "products": [[hex(number) for number in vector] for vector in rows],
                "s": [hex(number) for number in s],
                "t": [hex(number) for number in t],
                "challenge": hex(e),
                "proof": data.hex(),
            }
        )
    first = prime(256, random)
    moduli = {
        "a factor of 200 bits at 2048": [prime(200, random), prime(1848, random)],
        "three primes": [prime(170, random), prime(170, random), prime(172, random)],
        "one prime leaves 1 when divided by 4": [prime(256, random, 1), prime(256, random)],
        "both primes leave 1 when divided by 4": [prime(256, random, 1), prime(256, random, 1)],
        "gcd of n and phi above 1": [first, with_divisor(first, 512, random)],
    }
    return {
        "keys": keys,
        "products": products,
        "moduli": {name: [hex(number) for number in primes] for name, primes in moduli.items()},
    }


if __name__ == "__main__":
    VECTORS.write_text(json.dumps(known_answers(), indent=1) + "\n")
