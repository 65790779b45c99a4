"""What is measured: the functions to time, and the multiplications that each of them cannot do without."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from secrets import randbits

import numpy as np
import phe
from gmpy2 import mpz, powmod
from sklearn.datasets import load_diabetes

from commons.crypto import proofs
from commons.crypto.kernel import AffineMap, Products
from commons.crypto.packing import FRACTION_BITS, SLOT_BITS, pack
from commons.crypto.paillier import PrivateKey, ShortRandomisers, UniformRandomisers
from commons.crypto.residues import square_repeatedly
from commons.learning.local_steps import local_map, quantise_map
from commons.learning.statistics import FloatArray, GramStatistics, TableStatistics
from commons.protocol import evaluation, round
from scripts.benchmarks import classic
from scripts.benchmarks.measuring import Case

CLASSIC, OURS = "2019, on phe", "DeltaML"
ROWS = (50, 5_000, 500_000)
DIMENSIONS = (11, 50, 100, 200)
LEARNING_RATE = 1.5
TARGET_SCALE = 512
FACTOR = 4
FEATURES = [f"x{i}" for i in range(10)]
CONTEXT = b"benchmark"
"""What the proofs are bound to."""


@dataclass(frozen=True)
class Work:
    """Modular multiplications, by the length of what is multiplied.

    Parameters
    ----------
    bits : int
        Length of m, for arithmetic modulo m².
    squares : int
        Squarings of numbers below m².
    halves : int
        Multiplications of such a number by one below m.
    products : int
        Multiplications of two such numbers.
    """

    bits: int
    squares: int = 0
    halves: int = 0
    products: int = 0


Floor = list[tuple[int, Work]]
"""How often which work has to be done at least."""


def multiplications(bits: int) -> dict[Work, tuple[int, Case]]:
    """Return bare loops over each kind of multiplication, with the number of them in the loop."""
    m = mpz(randbits(bits)) | 1 | 1 << bits - 1
    modulus, x, y, half = m * m, mpz(randbits(2 * bits - 1)), mpz(randbits(2 * bits - 1)), mpz(randbits(bits - 1))
    count = 500

    def products() -> None:
        for _ in range(count):
            x * y % modulus

    def halves() -> None:
        for _ in range(count):
            x * half % modulus

    return {
        Work(bits, squares=1): (count, partial(square_repeatedly, x, count, m)),
        Work(bits, halves=1): (count, halves),
        Work(bits, products=1): (count, products),
    }


class World:
    """A key, and what the parties of a training on the diabetes data hold."""

    def __init__(self, key: PrivateKey) -> None:
        self.key = key
        self.public = key.public_key
        self.short = ShortRandomisers(self.public)
        # Without its thread, and with its tables: the price of a randomiser in a training that has been on for a while.
        self.uniform = UniformRandomisers(self.public)
        self.uniform.close()
        for _ in range(70):
            self.uniform.take(1)
        self.data = load_diabetes()
        self.owner = statistics(self.data.data[:50], self.data.target[:50])

    def owner_round(self, step: AffineMap, d: int) -> Case:
        """Return a trainer's round on a random model."""
        model = self.key.encrypt([randbits(FRACTION_BITS) for _ in range(d)])
        return partial(step.apply, model, self.public, self.short)

    def comparison(self) -> dict[str, Case]:
        """Return one owner's round on 50 rows with the arithmetic of 2019 and with ours."""
        design = np.column_stack([np.ones(50), self.data.data[:50]])
        target = self.data.target[:50] / TARGET_SCALE
        reference = phe.PaillierPublicKey(int(self.public.n))
        model = [reference.encrypt(weight) for weight in np.linspace(-0.5, 0.5, 11).tolist()]
        return {
            CLASSIC: partial(classic.owner_round, model, design, target, LEARNING_RATE),
            OURS: self.owner_round(step_of(self.owner), 11),
        }

    def by_rows(self) -> dict[str, Case]:
        """Return an owner's round, and before it the statistics, for several numbers of rows."""
        random = np.random.default_rng(0)
        cases: dict[str, Case] = {}
        for rows in ROWS:
            features = random.normal(scale=0.05, size=(rows, 10))
            target = 150 + features @ np.linspace(-500, 500, 10) + random.normal(scale=50, size=rows)
            cases[f"{rows:,} rows: statistics, once"] = partial(statistics, features, target)
            cases[f"{rows:,} rows: round"] = self.owner_round(step_of(statistics(features, target)), 11)
        return cases

    def by_dimension(self) -> tuple[dict[str, Case], dict[str, Floor]]:
        """Return an owner's round for several numbers of weights, on dense maps with entries of all lengths."""
        random = np.random.default_rng(0)
        cases: dict[str, Case] = {}
        floors = {}
        for d in DIMENSIONS:
            matrix = np.eye(d) / 2 + random.normal(scale=0.25 / np.sqrt(d), size=(d, d))
            step = AffineMap(*quantise_map(matrix, random.normal(size=d)))
            cases[f"d = {d}"] = self.owner_round(step, d)
            floors[f"d = {d}"] = [*self._work(step.products), *self._randomised(d)]
        return cases, floors

    def primitives(self) -> tuple[dict[str, Case], Mapping[str, Floor]]:
        """Return every step of a training with d = 11, and the multiplications in those that are one algorithm."""
        key, public, short, owner, d = self.key, self.public, self.short, self.owner, 11
        bits = public.bits
        vector = key.encrypt([randbits(100) for _ in range(d)])
        hidden = evaluation.mask_vectors([vector], public, self.uniform)
        (masked,), (masks,) = hidden.masked, hidden.masks
        opened = evaluation.open_masked(hidden.masked, key)
        (products,) = evaluation.products(opened, key)
        packed = round.mask(vector, public, self.uniform).packed
        proof = proofs.prove_products(hidden.masked, [products], opened, key, CONTEXT)
        key_proof = proofs.prove_key(key, CONTEXT)
        score = evaluation.score(owner, FACTOR, masked, products, masks, public, short)
        opening = evaluation.open_total(score, key)
        step = step_of(owner)
        uniform_tables = self.uniform._tables
        assert uniform_tables is not None
        short_digits, uniform_digits = short._tables.digits, uniform_tables.digits

        encryption = (1, Work(bits // 2, halves=2 * short_digits))
        uniform = (1, Work(bits, halves=uniform_digits))
        packing = (1, Work(bits, squares=SLOT_BITS * (d - 1), products=d - 1))
        # A random exponent costs one multiplication for every seven squarings, with windows of six bits.
        decryption = (1, Work(bits // 2, squares=bits, products=bits // 7))
        nth_power = (1, Work(bits, squares=bits, products=bits // 7))
        coefficients, _ = evaluation.quadratic_form(owner, FACTOR, masks)
        return {
            "encrypt (buyer)": partial(key.encrypt, [1]),
            "decrypt (buyer)": partial(key.decrypt, score),
            "open a total (buyer)": partial(evaluation.open_total, score, key),
            "short randomiser (owners)": partial(short.take, 1),
            "uniform randomiser (aggregator)": partial(self.uniform.take, 1),
            "the same as r^n": partial(powmod, vector[0] % public.n, public.n, public.n_squared),
            "round: affine map (trainer)": self.owner_round(step, d),
            "round: pack (aggregator)": partial(pack, vector, public),
            "round: mask (aggregator)": partial(round.mask, vector, public, self.uniform),
            "round: refresh (buyer)": partial(round.refresh, packed, d, FACTOR << FRACTION_BITS, key),
            "MSE: mask (aggregator)": partial(evaluation.mask_vectors, [vector], public, self.uniform),
            "MSE: open masks (buyer)": partial(evaluation.open_masked, hidden.masked, key),
            "MSE: products (buyer)": partial(evaluation.products, opened, key),
            "MSE: prove products (buyer)": partial(
                proofs.prove_products, hidden.masked, [products], opened, key, CONTEXT
            ),
            "MSE: verify products (aggregator, validator)": partial(
                proofs.verify_products, hidden.masked, [products], proof, public, CONTEXT
            ),
            "MSE: score (validator)": partial(evaluation.score, owner, FACTOR, masked, products, masks, public, short),
            "MSE: check an opening (aggregator)": partial(proofs.verify_opening, score, opening, public),
            "MSE: check 16 openings (aggregator)": partial(
                proofs.verify_openings, [score] * 16, [opening] * 16, public
            ),
            "key: prove (buyer)": partial(proofs.prove_key, key, CONTEXT),
            "key: verify (aggregator, owners)": partial(
                proofs.verify_key, int(public.n), key_proof, CONTEXT, public.bits
            ),
        }, {
            "encrypt (buyer)": [encryption],
            "decrypt (buyer)": [decryption],
            "short randomiser (owners)": [(1, Work(bits, halves=short_digits))],
            "uniform randomiser (aggregator)": [uniform],
            "the same as r^n": [nth_power],
            "round: affine map (trainer)": [*self._work(step.products), *self._randomised(d)],
            "round: pack (aggregator)": [packing],
            "round: mask (aggregator)": [packing, uniform],
            "round: refresh (buyer)": [decryption, *[encryption] * d],
            "MSE: mask (aggregator)": [uniform] * d,
            "MSE: open masks (buyer)": [decryption] * d,
            "MSE: products (buyer)": [encryption] * (d * (d + 1) // 2),
            "MSE: score (validator)": [*self._work(Products([coefficients])), *self._randomised(1)],
            "MSE: check an opening (aggregator)": [nth_power],
        }

    def _work(self, products: Products) -> Floor:
        return [(1, Work(self.public.bits, products.squarings, products.factors, products.entries))]

    def _randomised(self, count: int) -> Floor:
        return [(count, Work(self.public.bits, halves=self.short._tables.digits, products=1))]


def statistics(features: FloatArray, target: FloatArray) -> GramStatistics:
    """Return the least-squares problem of ten features and a target."""
    table = TableStatistics.accumulate([np.column_stack([features, target])], [*FEATURES, "y"])
    return table.select(FEATURES, "y", TARGET_SCALE)


def step_of(owner: GramStatistics) -> AffineMap:
    """Return an owner's gradient step."""
    return AffineMap(*quantise_map(*local_map(owner, LEARNING_RATE, 0.0, 1)))
