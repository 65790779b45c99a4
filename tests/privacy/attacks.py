"""What a curious buyer can compute from numbers it was shown. The same code for 2019's numbers and for ours."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from commons.learning.statistics import FloatArray

ComplexArray = npt.NDArray[np.complex128]

Sums = FloatArray | ComplexArray


def rows_from_residuals(models: FloatArray, residuals: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Solve X w − y = r for the rows X, shape (m, d), and the targets y, shape (m,).

    Parameters
    ----------
    models : ndarray of shape (evaluations, d)
    residuals : ndarray of shape (evaluations, m)
    """
    known = np.column_stack([models, -np.ones(len(models))])
    solution, _ = _least_squares(known, residuals)
    return solution[:-1].T, solution[-1]


def gradients_from_left_out(
    rows: FloatArray, residuals: FloatArray, left_out: FloatArray, learning_rate: float
) -> FloatArray:
    """Return every trainer's gradient in every evaluated round, shape (evaluations, k, d).

    Leaving out trainer i of k changes the residuals by X·η·g_i/k.

    Parameters
    ----------
    rows : ndarray of shape (m, d)
    residuals : ndarray of shape (evaluations, m)
    left_out : ndarray of shape (evaluations, k, m)
        Residuals without one trainer each.
    """
    evaluations, k, m = left_out.shape
    changes = (left_out - residuals[:, None, :]) * k / learning_rate
    solution, _ = _least_squares(rows, changes.reshape(evaluations * k, m).T)
    return solution.T.reshape(evaluations, k, -1)


def affine_map(inputs: FloatArray, outputs: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Fit outputs = M·input + c; with models and gradients M is a Gram matrix, with models and the next ones a step."""
    known = np.column_stack([inputs, np.ones(len(inputs))])
    solution, _ = _least_squares(known, outputs)
    return solution[:-1].T, solution[-1]


def quadratic_terms(models: FloatArray) -> FloatArray:
    """Return what the unknown sums of a validator are multiplied by in m·MSE(w) − m·MSE(0) − m·w_0², a row per model.

    The unknowns are A_jk for j ≤ k without A_00 = m, which is public, and then b.
    """
    upper = np.triu_indices(models.shape[1])
    doubled = np.where(upper[0] == upper[1], 1.0, 2.0)
    squares = (models[:, :, None] * models[:, None, :])[:, upper[0], upper[1]] * doubled
    return np.column_stack([squares[:, 1:], -2 * models])


def sums_from_errors(models: FloatArray, errors: npt.ArrayLike, zero: float, rows: int) -> tuple[FloatArray, int]:
    """Solve for a validator's sums of products from the MSEs of known models.

    Returns
    -------
    sums : ndarray
        In the order of :func:`quadratic_terms`; of all solutions the shortest.
    rank : int
        How many equations there are, out of as many as `sums` has numbers.
    """
    return _least_squares(quadratic_terms(models), rows * (np.asarray(errors) - zero - models[:, 0] ** 2))


def learning_curve(
    trainers: Sums, validators: Sums, targets: float, learning_rate: float, rounds: int
) -> tuple[ComplexArray, ComplexArray]:
    """Return the MSE after every round, and the last model, when one feature is learned.

    Parameters
    ----------
    trainers, validators : ndarray of shape (4,)
        Means over their rows of x, x², y and xy.
    targets : float
        Mean of the validators' y².
    """
    model = np.zeros(2, dtype=np.complex128)
    errors = []
    for _ in range(rounds):
        model = model - learning_rate * _gradient(trainers, model)
        errors.append(model @ (_gradient(validators, model) - validators[2:]) + targets)
    return np.array(errors), model


def _gradient(sums: Sums, model: ComplexArray) -> ComplexArray:
    return np.array([[1, sums[0]], [sums[0], sums[1]]]) @ model - sums[2:]


def fit(residuals: Callable[[ComplexArray], ComplexArray], start: FloatArray, steps: int = 300) -> FloatArray:
    """Minimise the sum of squares of residuals: Levenberg and Marquardt's method, derivatives by imaginary steps.

    Parameters
    ----------
    residuals : callable
        Analytic, real for real arguments.
    start : ndarray
        A first guess.
    steps : int
        How many improvements at most.
    """
    point, damping = start.astype(np.complex128), 1e-3
    found = residuals(point).real
    for _ in range(steps):
        slopes = np.array([residuals(point + 1e-30j * unit).imag / 1e-30 for unit in np.eye(len(point))]).T
        sizes = np.linalg.norm(slopes, axis=0)
        while damping < 1e12:
            damped = np.vstack([slopes / sizes, np.sqrt(damping) * np.eye(len(point))])
            step, _ = _least_squares(damped, np.concatenate([-found, np.zeros(len(point))]))
            with np.errstate(all="ignore"):  # too long a step diverges, and is shortened
                tried = residuals(point + step / sizes).real
            if tried @ tried < found @ found:
                break
            damping *= 4
        else:
            break
        point, found, damping = point + step / sizes, tried, damping / 9
    return np.asarray(point.real, dtype=np.float64)


def _least_squares(known: FloatArray, values: FloatArray) -> tuple[FloatArray, int]:
    solution, _, rank, _ = np.linalg.lstsq(known, values, rcond=None)
    return np.asarray(solution, dtype=np.float64), int(rank)
