"""A whole training in one process, over the calls that the services make and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from gmpy2 import mpz, powmod

from commons.crypto.kernel import AffineMap
from commons.crypto.packing import FRACTION_BITS, from_fixed, to_fixed
from commons.crypto.paillier import PrivateKey, PublicKey, Randomisers, ShortRandomisers, UniformRandomisers
from commons.crypto.proofs import (
    KeyProof,
    ProductProof,
    prove_key,
    prove_products,
    verify_key,
    verify_openings,
    verify_products,
)
from commons.learning import contributions as game
from commons.learning.local_steps import local_map, local_model, quantise_map
from commons.learning.statistics import FloatArray, GramStatistics
from commons.protocol import evaluation, round


@dataclass(frozen=True)
class Order:
    iterations: int = 100
    learning_rate: float = 1.5
    ridge: float = 0.0
    local_steps: int = 1


@dataclass(frozen=True)
class Outcome:
    weights: FloatArray
    initial_mse: int
    final_mse: int
    contributions: game.Contributions


class Training:
    """All parties of one training."""

    def __init__(
        self,
        private_key: PrivateKey,
        trainers: Sequence[GramStatistics],
        validators: Sequence[GramStatistics],
        weights: Sequence[int],
        order: Order,
    ) -> None:
        self.private_key = private_key
        self.key: PublicKey = private_key.public_key
        self.trainers = trainers
        self.validators = validators
        self.weights = weights
        self.order = order
        self.rows = sum(owner.rows for owner in validators)
        self.short: Randomisers = ShortRandomisers(self.key)
        self.uniform = UniformRandomisers(self.key)

    def mses(
        self, vectors: Sequence[Sequence[mpz]], factor: int
    ) -> tuple[list[int], list[list[int]], evaluation.MaskedVectors]:
        """Return the MSE of every vector, what the buyer opened, and the aggregator's masks."""
        hidden = evaluation.mask_vectors(vectors, self.key, self.uniform)
        opened = evaluation.open_masked(hidden.masked, self.private_key)
        products = evaluation.products(opened, self.private_key)
        context = f"products of {len(vectors)} vectors".encode()
        proof = prove_products(hidden.masked, products, opened, self.private_key, context).to_bytes(self.key)
        received = ProductProof.from_bytes(proof, len(vectors), self.key)
        verify_products(hidden.masked, products, received, self.key, context)
        totals = self.open(
            [
                [
                    evaluation.score(owner, factor, masked, squares, masks, self.key, self.short)
                    for owner in self.validators
                ]
                for masked, masks, squares in zip(hidden.masked, hidden.masks, products, strict=True)
            ]
        )
        return [evaluation.mse_of_total(total, factor, self.rows) for total in totals], opened, hidden

    def open(self, scores: Sequence[Sequence[mpz]]) -> list[int]:
        """Return what the buyer opens of every vector's scores."""
        ciphertexts = [evaluation.combine(column, self.key, self.uniform)[0] for column in scores]
        openings = [evaluation.open_total(ciphertext, self.private_key) for ciphertext in ciphertexts]
        verify_openings(ciphertexts, openings, self.key)
        return [opening.total for opening in openings]

    def run(self) -> Outcome:
        try:
            return self._run()
        finally:
            self.uniform.close()

    def _run(self) -> Outcome:
        proof = prove_key(self.private_key, b"key").to_bytes()
        verify_key(int(self.key.n), KeyProof.from_bytes(proof, self.key.bits), b"key", self.key.bits)
        order, factor = self.order, sum(self.weights)
        divisor = factor << FRACTION_BITS
        zeros = [evaluation.score_zero(owner, self.key, self.short) for owner in self.validators]
        initial_mse = evaluation.mse_of_zero_total(self.open([zeros])[0], self.rows)
        maps = [
            AffineMap(*quantise_map(*local_map(owner, order.learning_rate, order.ridge, order.local_steps)), a)
            for owner, a in zip(self.trainers, self.weights, strict=True)
        ]
        model = self.private_key.encrypt([0] * len(self.trainers[0].moment))
        for iteration in range(order.iterations):
            updates = [owner.apply(model, self.key, self.short) for owner in maps]
            total = round.aggregate(updates, self.key)
            if iteration < order.iterations - 1:
                hidden = round.mask(total, self.key, self.uniform)
                refreshed = round.refresh(hidden.packed, len(total), divisor, self.private_key)
                model = round.unmask(refreshed, hidden.masks, divisor, self.key)
        (final_mse,), (opened,), last = self.mses([total], factor)
        delivered = evaluation.deliver_model(opened, evaluation.delivery(last.masks[0], divisor), divisor)
        return Outcome(
            weights=np.array([from_fixed(value) for value in delivered]),
            initial_mse=initial_mse,
            final_mse=final_mse,
            contributions=self._contributions(initial_mse),
        )

    def _contributions(self, initial_mse: int) -> game.Contributions:
        order = self.order
        steps = order.iterations * order.local_steps
        models = [
            [
                self.key.encrypt(to_fixed(value, 2 * FRACTION_BITS), *self.short.take(1))
                for value in local_model(owner, order.learning_rate, order.ridge, steps)
            ]
            for owner in self.trainers
        ]
        vectors = [
            round.aggregate(
                [
                    [powmod(value, beta, self.key.n_squared) for value in model]
                    for model, beta in zip(models, point, strict=True)
                    if beta
                ],
                self.key,
            )
            for point in game.coalition_points(len(models))
        ]
        measured, _, _ = self.mses(vectors, 1)
        return game.contributions(initial_mse, measured, self.weights, b"seed")
