"""Watching running services from outside, and stopping them at a chosen moment.

A process is frozen (SIGSTOP) to hold a training at a known point: whoever waits for it waits until it is thawed. So
a test kills somebody in the middle of a round because the round cannot end, not because it slept for the right time.
"""

from __future__ import annotations

import re
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

import numpy as np
import psutil
import pytest

from commons.chain.marketplace import Marketplace, PaymentKind, Training
from commons.chain.marketplace import Status as ChainStatus
from commons.learning.local_steps import local_map
from commons.learning.statistics import GramStatistics, TableStatistics
from commons.protocol.messages import Totals
from commons.protocol.transcript import RECORDS, Cosigned, Masking, Round
from scripts.local import diabetes, flow
from scripts.local.flow import Json
from scripts.local.platform import LocalPlatform
from tests.integration.conftest import ROWS, Town
from tests.transcripts import expect_audited

TARGET_SCALE = 512
PATIENCE_S = 120.0

Value = TypeVar("Value")


def until(what: str, look: Callable[[], Value], patience_s: float = PATIENCE_S, pause_s: float = 0.002) -> Value:
    """Look again and again until there is something to see, and return it."""
    deadline = time.monotonic() + patience_s
    while not (seen := look()):
        assert time.monotonic() < deadline, f"not within {patience_s:.0f} s: {what}"
        time.sleep(pause_s)
    return seen


class Books:
    """The database of a running service, read only."""

    def __init__(self, platform: LocalPlatform, name: str, training_id: str) -> None:
        self._database = sqlite3.connect(
            f"file:{platform.directory / name / 'service.db'}?mode=ro", uri=True, isolation_level=None
        )
        self._id = UUID(training_id).hex

    def entry(self, kind: str, round_: int) -> tuple[bytes, bytes] | None:
        """Question and answer of an exchange, if the service has it in its journal."""
        query = "SELECT question, answer FROM journal WHERE training_id = ? AND kind = ? AND round = ?"
        row: tuple[bytes, bytes] | None = self._database.execute(query, (self._id, kind, round_)).fetchone()
        return row

    def rounds(self, kind: str) -> list[int]:
        """The rounds of which the journal has an exchange of that kind."""
        query = "SELECT round FROM journal WHERE training_id = ? AND kind = ? ORDER BY round"
        return [row[0] for row in self._database.execute(query, (self._id, kind))]

    def value(self, table: str, column: str) -> Any:
        """A column of the training's row in a table."""
        key = "training_id" if table == "metrics" else "id"
        row = self._database.execute(f"SELECT {column} FROM {table} WHERE {key} = ?", (self._id,)).fetchone()
        return row and row[0]


@contextmanager
def frozen(platform: LocalPlatform, *names: str) -> Iterator[None]:
    """Stop processes, and let them go on at the end, or what was started in their place."""
    for name in names:
        freeze(platform, name)
    try:
        yield
    finally:
        for name in names:
            thaw(platform, name)


def freeze(platform: LocalPlatform, name: str) -> None:
    """Stop a process, and see that it has stopped."""
    platform.supervisor.signal(name, signal.SIGSTOP)
    leader = psutil.Process(platform.supervisor.pid(name))
    for process in (leader, *leader.children(recursive=True)):
        until(f"{name} stops", partial(_stopped, process))


def _stopped(process: psutil.Process) -> bool:
    return process.status() == psutil.STATUS_STOPPED


def thaw(platform: LocalPlatform, name: str) -> None:
    """Let a process go on, unless it was killed while it was frozen."""
    platform.supervisor.signal(name, signal.SIGCONT)


def restart(platform: LocalPlatform, *names: str) -> None:
    """Start processes again, all at once."""
    for name in names:
        platform.supervisor.restart(name)
    for name in names:
        platform.wait_healthy(name)


def mend(platform: LocalPlatform) -> None:
    """Have everything run again, however a test ended."""
    for name in platform.urls:
        thaw(platform, name)
    restart(platform, *(name for name in platform.urls if not platform.supervisor.running(name)))


def found(platform: LocalPlatform) -> Town:
    """Start a platform, and have its people sign up."""
    platform.start()
    tables = diabetes.split(len(platform.owner_urls), ROWS)
    members = {
        f"owner-{number}": flow.enter(flow.Owner(url), f"owner-{number}", diabetes.to_csv(table))
        for number, (url, table) in enumerate(zip(platform.owner_urls, tables, strict=True), start=1)
    }
    buyer = flow.Buyer(platform.urls["buyer"])
    buyer_id, _ = buyer.sign_up("buyer")
    return Town(platform, buyer, buyer_id, flow.Aggregator.entered(platform.urls["aggregator"]), members)


def chain_of(town: Town, name: str | None = None) -> Marketplace:
    """The contract, to look at, or to act on as one of the services."""
    address = (town.platform.directory / "contract-address").read_text().strip()
    return Marketplace(town.platform.urls["chain"], address, town.platform.accounts[name] if name else None)


@dataclass(frozen=True)
class Case:
    """A training that is watched."""

    town: Town
    id: str
    hyper: dict[str, Any]
    roles: dict[str, str]
    """Names of the owners' processes by role: trainer-1, trainer-2, …, validator-1, …, and the other services."""
    held: int = 0
    """Wei that the contract held before the order."""

    @property
    def on_chain(self) -> Training:
        """The training as the contract has it."""
        return chain_of(self.town).training(UUID(self.id))

    def books(self, role: str) -> Books:
        """The database of a service."""
        return Books(self.town.platform, self.roles[role], self.id)

    def kill_and_restart(self, *roles: str) -> None:
        """Have services die at the same moment, and start again."""
        names = [self.roles[role] for role in roles]
        for name in names:
            self.town.platform.kill(name)
        restart(self.town.platform, *names)

    def log(self, role: str) -> str:
        """Everything that a service has logged of this training."""
        lines = self.town.platform.supervisor.log(self.roles[role]).read_text().splitlines()
        return "\n".join(line for line in lines if self.id in line)

    def expect_finished(self) -> Json:
        """Expect the training to end well everywhere, and everything to be paid out once; return the model."""
        model = self.town.buyer.wait_finished(self.id)
        earned = {}
        for member in self.town.members.values():
            if member.address in {owner.address for owner in self.on_chain.owners}:
                earned[member.address] = int(member.owner.wait_for_status(self.id, "FINISHED")["earned"])
        until("the aggregator finishes", lambda: self.town.aggregator.training(self.id)["status"] == "FINISHED")
        chain, on_chain = chain_of(self.town), self.on_chain
        payments = chain.payments(UUID(self.id))
        assert sum(payment.wei for payment in payments) == on_chain.escrow
        assert len({(payment.recipient, payment.kind) for payment in payments}) == len(payments)
        paid = {payment.recipient: payment.wei for payment in payments}
        assert {address: paid.get(address, 0) for address in earned} == earned
        assert {address: chain.credit(address) for address in paid} == dict.fromkeys(paid, 0)
        assert chain.balance(chain.address) == self.held
        return model

    def expect_refunded(self, status: ChainStatus, reason: str) -> None:
        """Expect the training to end for that reason everywhere, and the buyer to have its money back."""
        with pytest.raises(flow.TrainingFailed, match=reason):
            self.town.buyer.wait_finished(self.id)
        chain, on_chain = chain_of(self.town), self.on_chain
        assert on_chain.status == status
        for member in self.town.members.values():
            if member.address in {owner.address for owner in on_chain.owners}:
                assert re.search(reason, member.owner.wait_for_status(self.id, "FAILED")["reason"])
        (refund,) = chain.payments(UUID(self.id))
        assert (refund.recipient, refund.kind) == (on_chain.buyer, PaymentKind.BUYER_RETURN)
        assert (refund.wei, chain.credit(on_chain.buyer)) == (on_chain.escrow, 0)
        assert chain.balance(chain.address) == self.held

    def expect_agreement(self, model: Json) -> None:
        """Expect the errors to be those of descent in the clear by whoever answered."""
        reached = model["metrics"]["initial_mse"], model["metrics"]["trained_mse"]
        assert reached == pytest.approx(self._plaintext_mses(), rel=1e-8)

    def expect_nobody_left_out(self) -> None:
        """Expect everybody to have taken part in everything."""
        rounds = int(self.hyper["iterations"])
        trainers, validators = self._places("trainer"), self._places("validator")
        aggregator = self.books("aggregator")
        assert [self.answered(round_) for round_ in range(rounds)] == [trainers] * rounds
        for kind in ("zero", "iteration", "settlement"):
            for round_ in aggregator.rounds(f"total-{kind}"):
                assert self.scored(kind, round_) == validators

    def expect_consistent_questions(self) -> None:
        """Expect that nobody was asked two questions where the protocol asks one."""
        aggregator, buyer = self.books("aggregator"), self.books("buyer")
        interval = self.hyper["evaluation_interval"]
        evaluated = aggregator.rounds("mask-iteration")
        assert evaluated == list(range(interval, self.hyper["iterations"], interval))
        (last,) = aggregator.rounds("mask-settlement")
        for asked, answered in (
            *((("refresh", round_), ("refresh", round_)) for round_ in range(last - 1)),
            *((("mask-iteration", round_), ("products-iteration", round_)) for round_ in evaluated),
            *((("total-iteration", round_), ("open-iteration", round_)) for round_ in evaluated),
            (("mask-settlement", last), ("products-settlement", 0)),
            (("total-settlement", last), ("open-settlement", 0)),
            (("total-zero", 0), ("open-zero", 0)),
        ):
            record = RECORDS[asked[0]].unpack(_question(aggregator, *asked))
            assert isinstance(record, (Cosigned, Masking))
            question = record.totals if isinstance(record, Cosigned) else record.question
            assert question.pack() == _question(buyer, *answered)
        trainers = [self.books(role) for role in self.roles if role.startswith("trainer")]
        for round_ in range(last):
            assert len({_question(books, "update", round_) for books in trainers}) == 1
        for role in self.roles:
            assert "already been answered" not in self.log(role)

    def expect_audited(self) -> None:
        """Expect the transcript to be one of which every step was right, and what is on chain to follow from it."""
        expect_audited(self.town.platform, self.id)

    def answered(self, round_: int) -> list[int]:
        """Places of the trainers that are in a round's sum."""
        record = Round.unpack(_question(self.books("aggregator"), "round", round_))
        return [answer.place for answer in record.answers]

    def scored(self, kind: str, round_: int) -> list[int]:
        """Places of the validators that are in an evaluation's total."""
        record = Cosigned.unpack(_question(self.books("aggregator"), f"total-{kind}", round_))
        return list(record.totals.read(Totals).validators)

    def _plaintext_mses(self) -> tuple[float, float]:
        statistics = self._statistics()
        owners = [statistics[address] for address in self.on_chain.trainers]
        maps = [local_map(owner, self.hyper["learning_rate"], 0.0, 1) for owner in owners]
        model = np.zeros(len(diabetes.FEATURES) + 1)
        for round_ in range(self.hyper["iterations"]):
            model = np.mean([maps[i][0] @ model + maps[i][1] for i in self.answered(round_)], axis=0)
        scored = [self.on_chain.validators[place] for place in self.scored("settlement", self.hyper["iterations"])]
        initial, trained = (
            float(np.mean([statistics[address].mse(each) for address in scored])) for each in (0 * model, model)
        )
        return initial * TARGET_SCALE**2, trained * TARGET_SCALE**2

    def _statistics(self) -> dict[str, GramStatistics]:
        tables = zip(self.town.members.values(), diabetes.split(len(self.town.members), ROWS), strict=True)
        return {
            member.address: TableStatistics.accumulate([table], diabetes.COLUMNS).select(
                diabetes.FEATURES, diabetes.TARGET, TARGET_SCALE
            )
            for member, table in tables
        }

    def _places(self, role: str) -> list[int]:
        return list(range(sum(name.startswith(role) for name in self.roles)))


def begin(town: Town, hyper: dict[str, Any], owners: int = 5, standardise: bool = False, **participants: float) -> Case:
    """Have a training begin, and return when its roles are known; the buyer is still frozen, so it cannot go on."""
    names = list(town.members)[:owners]
    chain = chain_of(town)
    held = chain.balance(chain.address)
    training_id = town.order(
        hyper_parameters=hyper, standardise=standardise, participants={"wanted": owners} | participants
    )
    town.accept(training_id, *names[:-1])
    town.members[names[-1]].owner.wait_for_status(training_id, "READY")
    freeze(town.platform, "buyer")
    town.members[names[-1]].owner.accept(training_id)
    until("roles are drawn", lambda: chain.training(UUID(training_id)).status == ChainStatus.TRAINING)
    on_chain = chain.training(UUID(training_id))
    name_of = {member.address: name for name, member in town.members.items()}
    roles = {"aggregator": "aggregator", "buyer": "buyer"}
    roles |= {f"trainer-{i}": name_of[address] for i, address in enumerate(on_chain.trainers, start=1)}
    roles |= {f"validator-{i}": name_of[address] for i, address in enumerate(on_chain.validators, start=1)}
    return Case(town, training_id, hyper, roles, held)


def _question(books: Books, kind: str, round_: int) -> bytes:
    entry = books.entry(kind, round_)
    assert entry is not None, f"no {kind} {round_}"
    return entry[0]
