"""What a training came to, beside the same training in plaintext: for people and for machines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
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
class Candidates:
    """Mean squared errors of the two models that a training may deliver, on the validators' rows.

    Parameters
    ----------
    trained : float
        Of federated gradient descent.
    averaged : float
        Of the average of the trainers' own models.
    """

    trained: float
    averaged: float

    @property
    def delivered(self) -> float:
        """The better one's error: that model is delivered."""
        return min(self.trained, self.averaged)

    def difference(self, other: Candidates) -> float:
        """Return the larger relative difference from the other's."""
        differences = (self.trained / other.trained - 1, self.averaged / other.averaged - 1)
        return float(np.max(np.abs(differences)))  # unlike max, NaN if one is


def train_in_plaintext(
    trainers: Sequence[Table], validators: Sequence[Table], hyper_parameters: Mapping[str, Any]
) -> tuple[Candidates, float]:
    """Train on the trainers' rows and score on the validators', as the platform does and as scikit-learn does.

    Parameters
    ----------
    trainers, validators : sequence of Table
        Rows by owner.
    hyper_parameters : mapping
        An order's hyper-parameters.

    Returns
    -------
    candidates : Candidates
        The same federated training without encryption.
    sklearn : float
        Mean squared error of LinearRegression on all the trainers' rows in one place.
    """
    rate, ridge = hyper_parameters["learning_rate"], hyper_parameters["ridge"]
    iterations, steps = hyper_parameters["iterations"], hyper_parameters["local_steps"]
    statistics = [_statistics(rows) for rows in trainers]
    weights = local_steps.relative_weights([len(rows) for rows in trainers], hyper_parameters["weighting"])
    trained = local_steps.federated_descent(statistics, weights, iterations, rate, ridge, steps)
    averaged = local_steps.federated_average_of_local_models(statistics, weights, rate, ridge, iterations * steps)

    pooled = np.concatenate(trainers)
    regression = LinearRegression().fit(pooled[:, :-1], pooled[:, -1])
    mse = _statistics(np.concatenate(validators)).mse
    return Candidates(mse(trained), mse(averaged)), mse(np.array([regression.intercept_, *regression.coef_]))


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
    initial_mse : float
        Of the zero model, in squared units of the target.
    encrypted, plaintext : Candidates
        What the platform reached, and what the same training in plaintext reaches.
    sklearn_mse : float
        What scikit-learn reaches on the trainers' rows pooled.
    seconds, bytes : dict of str to number
        By phase; with ``training`` (last acceptance to FINISHED) and ``total``.
    key_bits, rounds : int
        Length of the Paillier modulus, and rounds that were run.
    """

    training_id: str
    parties: tuple[Party, ...]
    initial_mse: float
    encrypted: Candidates
    plaintext: Candidates
    sklearn_mse: float
    seconds: dict[str, float]
    bytes: dict[str, int]
    key_bits: int
    rounds: int

    def require_success(self) -> None:
        """Raise VerificationFailed unless encrypted and plaintext training agree."""
        difference = self.encrypted.difference(self.plaintext)
        if not difference <= AGREEMENT:
            raise VerificationFailed(
                f"encrypted and plaintext training differ by a relative {difference:.1e} in their MSE, "
                f"where at most {AGREEMENT:.0e} is right: {self.encrypted} against {self.plaintext}"
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
            "final_mse": self.encrypted.trained,
            "plaintext_mse": self.plaintext.trained,
            "delivered_mse": self.encrypted.delivered,
            "sklearn_mse": self.sklearn_mse,
            "shares": {party.address: party.share for party in self.in_role("trainer")},
            "payouts_wei": {party.address: party.received for party in self.parties},
            "seconds": self.seconds,
            "bytes": self.bytes,
            "key_bits": self.key_bits,
            "rounds": self.rounds,
        }

    def show(self, console: Console) -> None:
        """Print the report for people."""
        for role in ("trainer", "validator"):
            names = ", ".join(party.name for party in self.in_role(role))
            console.print(f"The chain drew as {role}s: {names}")
        for grid in (self._errors(), self._parties(), self._phases()):
            console.print()
            console.print(grid)

    def _errors(self) -> Grid:
        grid = _grid("Mean squared error on the validators' rows", "model", "encrypted", "plaintext")
        grid.add_row("zero", f"{self.initial_mse:.6f}")
        names = {"trained": f"federated descent, {self.rounds} rounds", "averaged": "trainers' own models averaged"}
        for field, name in names.items():
            encrypted, plaintext = getattr(self.encrypted, field), getattr(self.plaintext, field)
            style = "bold" if encrypted == self.encrypted.delivered else ""
            grid.add_row(name, f"{encrypted:.6f}", f"{plaintext:.6f}", style=style)
        grid.add_row("scikit-learn, trainers' rows pooled", "", f"{self.sklearn_mse:.6f}")
        difference = self.encrypted.difference(self.plaintext)
        grid.caption = f"in bold: the better one, delivered; relative difference from plaintext {difference:.0e}"
        return grid

    def _parties(self) -> Grid:
        columns = ("", "role", "rows", "MSE without", "share", "received", "balance")
        grid = _grid("What everybody received from the contract, in ether", *columns, left=3)
        for party in self.parties:
            grid.add_row(
                party.name,
                party.role,
                party.rows,
                "" if party.partial_mse is None else f"{party.partial_mse:.2f}",
                "" if party.share is None else f"{party.share:.2%}",
                f"{party.received / ETHER:.6f}",
                f"{party.balance_change / ETHER:+.6f}",
            )
        grid.add_section()
        total = sum(party.received for party in self.parties)
        grid.add_row("together", "", "", "", "", f"{total / ETHER:.6f}", "")
        grid.caption = "balance: change of the account's since before the order, gas included"
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
    plaintext: Candidates,
    sklearn_mse: float,
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
    plaintext, sklearn_mse
        What :func:`train_in_plaintext` gives for the roles that were drawn.
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
        encrypted=Candidates(model["metrics"]["trained_mse"], model["metrics"]["averaged_mse"]),
        plaintext=plaintext,
        sklearn_mse=sklearn_mse,
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
            role=roles.get(address, ""),
            received=received.get(address, 0),
            balance_change=balance_changes[name],
            rows=rows.get(name, ""),
            share=scores.get(address, {}).get("contributions"),
            partial_mse=scores.get(address, {}).get("partial_MSE"),
        )
        for name, address in addresses.items()
    ]


def _grid(title: str, *columns: str, left: int = 1) -> Grid:
    grid = Grid(title=title, title_justify="left", caption_justify="left", box=SIMPLE_HEAD)
    for index, column in enumerate(columns):
        grid.add_column(column, justify="left" if index < left else "right")
    return grid
