"""What a training came to, beside the same training in plaintext: for people and for machines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table as Grid
from sklearn.linear_model import LinearRegression

from commons.errors import VerificationFailed
from commons.learning import local_steps
from commons.learning.statistics import GramStatistics, TableStatistics
from scripts.local.diabetes import COLUMNS, FEATURES, TARGET, Table
from scripts.local.flow import Json

ETHER = 10**18
"""Wei in an ether."""

AGREEMENT = 1e-6
"""Largest relative difference between the encrypted and the plaintext MSE that the report accepts."""


@dataclass(frozen=True)
class References:
    """Mean squared errors on the validators' rows of models that were trained in plaintext.

    Parameters
    ----------
    descent : float
        The same federated gradient descent.
    averaged : float
        The trainers' own models, averaged: the training's second candidate for delivery.
    sklearn : float
        scikit-learn's LinearRegression on all the trainers' rows in one place.
    """

    descent: float
    averaged: float
    sklearn: float

    @property
    def delivered(self) -> float:
        """The better candidate's error, as the protocol delivers the better one."""
        return min(self.descent, self.averaged)


def references(
    trainers: Sequence[Table], validators: Sequence[Table], hyper_parameters: Mapping[str, Any]
) -> References:
    """Train in plaintext on the trainers' rows and score on the validators'.

    Parameters
    ----------
    trainers, validators : sequence of Table
        Rows by owner.
    hyper_parameters : mapping
        An order's hyper-parameters, all fields.
    """
    statistics = [TableStatistics.accumulate([rows], COLUMNS).select(FEATURES, TARGET, 1) for rows in trainers]
    rate, ridge = hyper_parameters["learning_rate"], hyper_parameters["ridge"]
    iterations, steps = hyper_parameters["iterations"], hyper_parameters["local_steps"]
    weights = local_steps.relative_weights([len(rows) for rows in trainers], hyper_parameters["weighting"])
    descent = local_steps.federated_descent(statistics, weights, iterations, rate, ridge, steps)
    averaged = local_steps.federated_average_of_local_models(statistics, weights, rate, ridge, iterations * steps)

    training, validation = np.concatenate(trainers), np.concatenate(validators)
    regression = LinearRegression().fit(training[:, :-1], training[:, -1])
    scored = _statistics(validation)
    return References(
        descent=scored.mse(descent),
        averaged=scored.mse(averaged),
        sklearn=scored.mse(np.array([regression.intercept_, *regression.coef_])),
    )


def _statistics(rows: Table) -> GramStatistics:
    return TableStatistics.accumulate([rows], COLUMNS).select(FEATURES, TARGET)


@dataclass(frozen=True)
class Party:
    """One account and what the training did to it.

    Parameters
    ----------
    name, address, role : str
        The process, its account, and what it was in this training.
    received : int
        Wei that the contract paid it.
    balance_change : int
        Wei by which its balance differs from before the order, gas included.
    rows : str
        Which rows of the data it has; empty for those without.
    share, partial_mse : float, optional
        A trainer's share of the reward, and the error without it.
    """

    name: str
    address: str
    role: str
    received: int
    balance_change: int
    rows: str = ""
    share: float | None = None
    partial_mse: float | None = None


@dataclass(frozen=True)
class Report:
    """A finished training.

    Parameters
    ----------
    training_id : str
        Its id, everywhere.
    parties : tuple of Party
        Data owners, aggregator, buyer.
    initial_mse, final_mse : float
        Of the zero model and of the delivered one, in squared units of the target.
    references : References
        What plaintext training gives.
    seconds, bytes : dict of str to number
        By phase; with ``training`` (last acceptance to FINISHED) and ``total``.
    key_bits, rounds : int
        Length of the Paillier modulus, and rounds that were run.
    """

    training_id: str
    parties: tuple[Party, ...]
    initial_mse: float
    final_mse: float
    references: References
    seconds: dict[str, float]
    bytes: dict[str, int]
    key_bits: int
    rounds: int

    @property
    def difference(self) -> float:
        """Relative difference between the encrypted and the plaintext MSE."""
        return abs(self.final_mse - self.references.delivered) / self.references.delivered

    def require_agreement(self) -> None:
        """Raise VerificationFailed unless encrypted and plaintext training agree."""
        if not self.difference <= AGREEMENT:
            raise VerificationFailed(
                f"the encrypted training ends at an MSE of {self.final_mse!r}, plaintext at "
                f"{self.references.delivered!r}: a relative difference of {self.difference:.1e}, "
                f"and at most {AGREEMENT:.0e} is right"
            )

    def in_role(self, role: str) -> list[Party]:
        """Return the parties in a role."""
        return [party for party in self.parties if party.role == role]

    def to_json(self) -> Json:
        """Return the report for machines; parties are keys by their address."""
        owners = [party for party in self.parties if party.rows]
        return {
            "training": self.training_id,
            "roles": {
                "trainers": [party.address for party in self.in_role("trainer")],
                "validators": [party.address for party in self.in_role("validator")],
            },
            "rows": {party.address: party.rows for party in owners},
            "initial_mse": self.initial_mse,
            "final_mse": self.final_mse,
            "plaintext_mse": self.references.delivered,
            "sklearn_mse": self.references.sklearn,
            "shares": {party.address: party.share for party in self.in_role("trainer")},
            "payouts_wei": {party.address: party.received for party in self.parties},
            "seconds": self.seconds,
            "bytes": self.bytes,
            "key_bits": self.key_bits,
            "rounds": self.rounds,
        }

    def show(self, console: Console) -> None:
        """Print the report for people."""
        for grid in (self._errors(), self._parties(), self._phases()):
            console.print()
            console.print(grid)

    def _errors(self) -> Grid:
        grid = _grid("Mean squared error on the validators' rows", "", "MSE")
        grid.add_row("zero model", f"{self.initial_mse:.6f}")
        grid.add_row(f"[bold]trained encrypted, {self.rounds} rounds", f"[bold]{self.final_mse:.6f}")
        grid.add_row("federated descent in plaintext", f"{self.references.descent:.6f}")
        grid.add_row("trainers' own models averaged, in plaintext", f"{self.references.averaged:.6f}")
        grid.add_row("scikit-learn on the trainers' rows pooled", f"{self.references.sklearn:.6f}")
        better = min(("descent", "averaged"), key=lambda name: float(getattr(self.references, name)))
        delivered = {"descent": "federated descent", "averaged": "averaged models"}[better]
        grid.caption = f"{delivered} delivered; {self.difference:.1e} from plaintext, relatively"
        return grid

    def _parties(self) -> Grid:
        columns = (
            "",
            "account",
            "role",
            "rows",
            "MSE without it",
            "share",
            "paid by the contract",
            "balance",
        )
        grid = _grid("What everybody received, in ether", *columns, left=4)
        for party in self.parties:
            grid.add_row(
                party.name,
                f"{party.address[:8]}…{party.address[-4:]}",
                party.role,
                party.rows,
                "" if party.partial_mse is None else f"{party.partial_mse:.2f}",
                "" if party.share is None else f"{party.share:.2%}",
                f"{party.received / ETHER:.6f}",
                f"{party.balance_change / ETHER:+.6f}",
            )
        grid.add_section()
        total = sum(party.received for party in self.parties)
        grid.add_row("together", "", "", "", "", "", f"{total / ETHER:.6f}", "")
        grid.caption = "balance: change since before the order, gas included"
        return grid

    def _phases(self) -> Grid:
        grid = _grid("Time, and bytes between services", "phase", "seconds", "kB")
        for name in self.seconds:
            if name != "training":
                grid.add_row(name, f"{self.seconds[name]:.2f}", f"{self.bytes.get(name, 0) / 1000:.1f}")
        grid.add_section()
        grid.add_row(
            "[bold]last acceptance to result",
            f"[bold]{self.seconds['training']:.2f}",
            f"[bold]{self.bytes['total'] / 1000:.1f}",
        )
        grid.caption = f"{self.key_bits}-bit keys"
        return grid


def make_report(
    model: Json,
    training: Json,
    parties: Sequence[Party],
    figures: References,
    key_bits: int,
    training_seconds: float,
) -> Report:
    """Put together what the services say about a finished training.

    Parameters
    ----------
    model : dict
        The buyer's GET /models/{id}.
    training : dict
        The aggregator's GET /model/{id}.
    parties : sequence of Party
        As :func:`make_parties` gives them.
    figures : References
        Plaintext training on the roles that were drawn.
    key_bits : int
        As ordered.
    training_seconds : float
        From the last acceptance to the result.
    """
    phases = training["phases"]
    return Report(
        training_id=model["model"]["id"],
        parties=tuple(parties),
        initial_mse=model["metrics"]["initial_mse"],
        final_mse=model["metrics"]["mse"],
        references=figures,
        seconds={phase["name"]: phase["seconds"] for phase in phases} | {"training": training_seconds},
        bytes={phase["name"]: phase["bytes"] for phase in phases} | {"total": sum(phase["bytes"] for phase in phases)},
        key_bits=key_bits,
        rounds=model["metrics"]["iterations"],
    )


def make_parties(
    model: Json,
    training: Json,
    received: Mapping[str, int],
    addresses: Mapping[str, str],
    balance_changes: Mapping[str, int],
    rows: Mapping[str, str],
) -> list[Party]:
    """Tell what the training was to every account.

    Parameters
    ----------
    model, training : dict
        See :func:`make_report`.
    received : mapping
        Wei that the contract paid, by address.
    addresses, balance_changes, rows : mapping
        By the service's name: account, change of its balance in wei, and for owners which rows it has.
    """
    roles = dict.fromkeys(training["roles"]["trainers"], "trainer")
    roles |= dict.fromkeys(training["roles"]["validators"], "validator")
    scores = {score["data_owner"]: score for score in model["metrics"]["partial_MSEs"]}
    return [
        Party(
            name=name,
            address=address,
            role=roles.get(address, name),
            received=received.get(address, 0),
            balance_change=balance_changes[name],
            rows=rows.get(name, ""),
            share=scores.get(address, {}).get("contributions"),
            partial_mse=scores.get(address, {}).get("partial_MSE"),
        )
        for name, address in addresses.items()
    ]


def _grid(title: str, *columns: str, left: int = 1) -> Grid:
    grid = Grid(title=title, title_justify="left", caption_justify="left")
    for index, column in enumerate(columns):
        grid.add_column(column, justify="left" if index < left else "right")
    return grid
