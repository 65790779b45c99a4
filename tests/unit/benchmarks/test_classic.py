from __future__ import annotations

import numpy as np
import phe

from commons.crypto.kernel import AffineMap
from commons.crypto.packing import from_fixed, to_fixed
from commons.crypto.paillier import PrivateKey, ShortRandomisers
from commons.learning.local_steps import local_map, quantise_map
from commons.learning.statistics import GramStatistics
from scripts.benchmarks import classic


def test_both_arithmetics_take_the_same_gradient_step() -> None:
    random = np.random.default_rng(3)
    design = np.column_stack([np.ones(6), random.normal(size=(6, 2))])
    target, weights = random.normal(size=6), np.array([0.5, -0.25, 1.0])
    owner = GramStatistics(6, design.T @ design, design.T @ target, float(target @ target))
    public, private = phe.generate_paillier_keypair(n_length=1024)

    matrix, offset = local_map(owner, 0.3, 0.0, 1)
    numbers = classic.owner_round([public.encrypt(weight) for weight in weights.tolist()], design, target, 0.3)
    np.testing.assert_allclose([private.decrypt(number) for number in numbers], matrix @ weights + offset)

    key = PrivateKey(private.p, private.q)
    model = key.encrypt([to_fixed(weight) for weight in weights.tolist()])
    step = AffineMap(*quantise_map(matrix, offset))
    ours = step.apply(model, key.public_key, ShortRandomisers(key.public_key))
    np.testing.assert_allclose([from_fixed(key.decrypt_signed(c), 80) for c in ours], matrix @ weights + offset)
