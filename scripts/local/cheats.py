"""Parties that cheat in a training, and whether that ends as the protocol says.

The services of the stage are those of :mod:`tests.cheats`: each is the real one with one thing done otherwise, which it
does where an order asks for it, and nowhere else.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from commons.chain.marketplace import Marketplace
from commons.chain.settlement import Split, settle
from commons.chain.training import Dispute, Outcome, Payment, PaymentKind, Result, Status, Training
from commons.errors import DeltaMLError, InvalidInput
from commons.learning.contributions import UNIT
from commons.learning.statistics import GramStatistics, TableStatistics
from commons.protocol import outcome as protocol
from commons.protocol.messages import HyperParameters
from scripts.local import diabetes, flow, honest
from scripts.local.platform import LocalPlatform

MODULES = {name: f"tests.cheats.{name}" for name in ("aggregator", "buyer", "owner")}
"""What a stage's services are, for :class:`scripts.local.platform.LocalPlatform`."""

FEATURES = ("bmi", "bp", "s5")
TARGET_SCALE = 512.0
"""What every order's targets are divided by: the power of two above 346."""
HYPER_PARAMETERS: dict[str, Any] = {"iterations": 6, "learning_rate": 1.5, "evaluation_interval": 2}
VALIDATOR_SHARE = 0.4
"""Of five owners, three train and two validate."""

PRECISION = 1e-6
"""Largest relative difference between an MSE of the platform and the same in plaintext."""

LONG, SHORT = 3600, 20
"""Review periods in seconds: longer than anything here takes, and short enough to wait for."""


@dataclass(frozen=True)
class Cheat:
    """One way of cheating, and how it has to end.

    Parameters
    ----------
    name : str
        WHO=HOW.
    does : str
        What the party does, in one sentence without its name.
    caught : str
        Who notices, and what follows.
    status : Status
        In which the training ends on chain.
    reason : str
        Part of the reason that the chain gives for an abort, or that the disputer, or the cheater's victim, gives.
    disputers : tuple of str
        ``buyer`` or ``owner``: who may be the one that disputes; empty if nobody does.
    outcome : Outcome, optional
        What the arbiter decides.
    review_s : int
        The order's review period.
    """

    name: str
    does: str
    caught: str
    status: Status = Status.FINISHED
    reason: str = ""
    disputers: tuple[str, ...] = ()
    outcome: Outcome | None = None
    review_s: int = LONG

    @property
    def role(self) -> str:
        """Who cheats: ``buyer``, ``aggregator``, ``trainer`` or ``validator``."""
        return self.name.partition("=")[0]


CHEATS = (
    Cheat(
        "buyer=false-product",
        "returns products of which one is not a product",
        "the aggregator, which verifies the proof of the products, aborts and names the buyer",
        Status.FAILED,
        "the model buyer {buyer} deviated: InvalidProof",
    ),
    Cheat(
        "buyer=wrong-mse",
        "opens every total of the settlement as twice what it holds",
        "the aggregator, which verifies the openings, aborts and names the buyer",
        Status.FAILED,
        "the model buyer {buyer} deviated: InvalidOpening",
    ),
    Cheat(
        "buyer=spoils-refresh",
        "returns other numbers than the quotients, in every round",
        "nobody can prove it; the average of the owners' own models is delivered, and paid for, instead",
    ),
    Cheat(
        "buyer=refuses-finish",
        "never confirms the result",
        "nobody has to: when the review period is over the services finalize, and it pays as reported",
        review_s=SHORT,
    ),
    Cheat(
        "aggregator=drops-update",
        "takes the updates of the first trainer and says that it did not answer",
        "the trainer disputes and shows its signed answers; the arbiter counts it as having answered",
        reason="whether this owner answered",
        disputers=("owner",),
        outcome=Outcome.CORRECTED,
    ),
    Cheat(
        "aggregator=reports-mse",
        "reports half of the final MSE",
        "the buyer and every owner, who know it with its evidence; the first one disputes, and the arbiter corrects it",
        reason="final MSE",
        disputers=("buyer", "owner"),
        outcome=Outcome.CORRECTED,
    ),
    Cheat(
        "aggregator=swaps-contributions",
        "reports the largest contribution as the smallest one's, and the other way round",
        "the buyer, who computes them itself, disputes; the arbiter corrects them",
        reason="contribution of",
        disputers=("buyer",),
        outcome=Outcome.CORRECTED,
    ),
    Cheat(
        "aggregator=different-questions",
        "shows one validator other masks than the other, in the first evaluation",
        "each validator sees that the other's answer is not to the question that it was asked, and neither co-signs",
        Status.FAILED,
        "no validator signed the sums of iteration 2",
    ),
    Cheat(
        "aggregator=another-model",
        "delivers other numbers than those that unmask the model",
        "the buyer compares them with the commitment that the validators signed, refuses them, and disputes when half"
        " of the review period is over; the arbiter delivers the model",
        reason="did not deliver what it is bound to",
        disputers=("buyer",),
        outcome=Outcome.CORRECTED,
        review_s=SHORT,
    ),
    Cheat(
        "aggregator=never-delivers",
        "keeps the model",
        "the buyer disputes when half of the review period is over; the arbiter delivers the model",
        reason="the model was not delivered",
        disputers=("buyer",),
        outcome=Outcome.CORRECTED,
        review_s=SHORT,
    ),
    Cheat(
        "aggregator=withholds-transcript",
        "reports half of the final MSE and shows the arbiter no transcript",
        "the buyer and every owner, who know the MSE; the first one disputes, and the arbiter refunds the buyer",
        reason="final MSE",
        disputers=("buyer", "owner"),
        outcome=Outcome.REFUND,
    ),
    Cheat(
        "aggregator=makes-up-total",
        "asks the buyer to open totals of zero that it made up, so that the model looks perfect",
        "the buyer, who finds that the validators signed other totals, opens nothing",
        Status.FAILED,
        "its validators did not co-sign them",
    ),
    Cheat(
        "trainer=signs-another",
        "signs one update and sends another, in every round",
        "the aggregator leaves it out of the rounds, and it is not paid",
        review_s=SHORT,
    ),
    Cheat(
        "validator=replays-answer",
        "answers the second evaluation with its signed answer to the first one",
        "the aggregator leaves it out, the other validator goes on alone, and it is not paid",
        review_s=SHORT,
    ),
)

HONEST = Cheat("nobody", "cheats", "nobody has to catch anybody")


def find(name: str) -> Cheat:
    """Return the cheat of that name; InvalidInput if there is none."""
    for cheat in CHEATS:
        if cheat.name == name:
            return cheat
    raise InvalidInput(f"{name!r} is none of {', '.join(cheat.name for cheat in CHEATS)}")


@dataclass(frozen=True)
class Event:
    """Something that was seen: seconds after the order, at which step of the training, of whom, and what."""

    seconds: float
    step: str
    who: str
    what: str


@dataclass(frozen=True)
class Arbitration:
    """What ``deltaml arbitrate`` said, and its exit status."""

    output: str
    status: int


@dataclass(frozen=True)
class Stage:
    """A platform whose services may cheat and whose people have signed up: five owners with rows, and a buyer."""

    platform: LocalPlatform
    buyer: flow.Buyer
    buyer_id: str
    aggregator: flow.Aggregator
    owners: Mapping[str, flow.Owner]
    market: Marketplace
    names: Mapping[str, str]
    """The service's name by address."""
    statistics: Mapping[str, GramStatistics]
    """Of the owners' rows, by address."""

    @classmethod
    def enter(cls, platform: LocalPlatform, rows: int = 50) -> Stage:
        """Sign everybody up on a platform that runs, each owner with so many rows."""
        tables = diabetes.split(len(platform.owner_urls), rows)
        owners = {name: flow.Owner(url) for name, url in platform.urls.items() if name.startswith("owner-")}
        statistics = {}
        for (name, owner), table in zip(owners.items(), tables, strict=True):
            member = flow.enter(owner, name, diabetes.to_csv(table))
            columns = TableStatistics.accumulate([table], diabetes.COLUMNS)
            statistics[member.address] = columns.select(FEATURES, diabetes.TARGET, TARGET_SCALE)
        buyer = flow.Buyer(platform.urls["buyer"])
        buyer_id, _ = buyer.sign_up("buyer")
        contract = str(buyer.contract()["address"])
        return cls(
            platform=platform,
            buyer=buyer,
            buyer_id=buyer_id,
            aggregator=flow.Aggregator.entered(platform.urls["aggregator"]),
            owners=owners,
            market=Marketplace(platform.urls["chain"], contract),
            names={str(account.address): name for name, account in platform.accounts.items()},
            statistics=statistics,
        )

    def order(self, cheat: Cheat) -> flow.Json:
        """Return the order of a training in which that cheat is done."""
        return flow.order_for(
            self.buyer_id,
            FEATURES,
            description={"cheat": cheat.name},
            hyper_parameters=HYPER_PARAMETERS,
            participants={"validator_share": VALIDATOR_SHARE},
            terms={"review_seconds": cheat.review_s},
        )

    def accept(self, training_id: str) -> None:
        """Have every owner accept."""
        for owner in self.owners.values():
            owner.wait_for_status(training_id, "READY")
            owner.accept(training_id)

    def arbitrate(self, training_id: str, width: int = 120) -> Arbitration:
        """Run ``deltaml arbitrate`` as the training's arbiter would, in a terminal of that width."""
        argv = [str(Path(sys.executable).with_name("deltaml")), "arbitrate", training_id]
        urls = self.platform.urls
        options = {"--chain": urls["chain"], "--contract": self.market.address, "--aggregator": urls["aggregator"]}
        key = "0x" + bytes(self.platform.accounts["arbiter"].key).hex()
        done = subprocess.run(
            [*argv, *(part for option in options.items() for part in option)],
            env={**os.environ, "DELTAML_ACCOUNT_PRIVATE_KEY": key, "COLUMNS": str(width)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return Arbitration(done.stdout, done.returncode)

    def named(self, text: str) -> str:
        """Return a text with services' names in place of their addresses."""
        for address, name in self.names.items():
            text = text.replace(address, name)
        return text.replace("model buyer buyer", "model buyer").replace("aggregator aggregator", "aggregator")


@dataclass
class Trial:
    """One training with one cheat on a stage, from the order to the end.

    Attributes
    ----------
    events : list of Event
        What the parties' records have shown so far, in the order in which it was seen.
    arbitration : Arbitration or None
        The arbiter's part, if there was a dispute.
    """

    stage: Stage
    cheat: Cheat
    training_id: str
    started: float
    events: list[Event] = field(default_factory=list)
    arbitration: Arbitration | None = None
    _shown: dict[str, str] = field(default_factory=dict)

    @classmethod
    def begin(cls, stage: Stage, cheat: Cheat) -> Trial:
        """Order the training."""
        started = time.monotonic()
        return cls(stage, cheat, stage.buyer.order(stage.order(cheat)), started)

    @property
    def id(self) -> uuid.UUID:
        """The training's id."""
        return uuid.UUID(self.training_id)

    def watch(
        self, on_event: Callable[[Event], None] = lambda event: None, timeout: float = 180, interval: float = 0.2
    ) -> Ended:
        """Wait until the training is over for everybody, and be its arbiter if it is disputed.

        Parameters
        ----------
        on_event : callable
            Told what somebody's record shows, as soon as it is seen.
        timeout, interval : float
            Seconds: in all, and between two looks.

        Raises
        ------
        TimeoutError
            It is not over by then; the text says who is where.
        DeltaMLError
            The arbiter could not resolve the dispute.
        """
        deadline = time.monotonic() + timeout
        while True:
            chain, records = self._look(on_event)
            if chain.status == Status.DISPUTED and self.arbitration is None:
                self._note(on_event, "dispute", "arbiter", "asks for the transcript and the evidence, and audits them")
                self.arbitration = self.stage.arbitrate(self.training_id)
                self._note(on_event, "dispute", "arbiter", "has decided" if self.arbitration.status == 0 else "failed")
                if self.arbitration.status != 0:
                    raise DeltaMLError(
                        f"deltaml arbitrate ended with {self.arbitration.status}: {self.arbitration.output}"
                    )
                continue
            open_ = {name for name, record in records.items() if record["status"] not in ("FINISHED", "FAILED")}
            # A cheating aggregator may leave its own record open for ever.
            if chain.status.is_final and open_ <= {self.cheat.role} & {"aggregator"}:
                return self._ended(chain, records)
            if time.monotonic() > deadline:
                states = {name: record["status"] for name, record in records.items()}
                raise TimeoutError(f"{self.cheat.name} is not over: {chain.status.name} on chain, {states}")
            time.sleep(interval)

    def _look(self, on_event: Callable[[Event], None]) -> tuple[Training, dict[str, flow.Json]]:
        stage = self.stage
        chain = stage.market.training(self.id)
        model = stage.buyer.model(self.training_id)
        records = {
            "buyer": model | model["model"],
            "aggregator": stage.aggregator.training(self.training_id),
            **{name: owner.training(self.training_id) for name, owner in stage.owners.items()},
        }
        step = _step(chain.status, records["aggregator"]["iteration"])
        if self._shown.get("chain") != chain.status.name:
            self._shown["chain"] = chain.status.name
            self._note(on_event, step, "chain", f"{chain.status.name}{self._details(chain)}")
        news: dict[str, list[str]] = {}
        for name, record in records.items():
            reason = record["reason"]
            shown = f"{record['status']}: {reason}" if reason else str(record["status"])
            if self._shown.get(name) != shown:
                self._shown[name] = shown
                if reason or record["status"] in ("FINISHED", "FAILED"):
                    news.setdefault(shown, []).append(name)
        for shown, names in news.items():
            self._note(on_event, step, ", ".join(names), shown)
        return chain, records

    def _details(self, chain: Training) -> str:
        if chain.status == Status.TRAINING:
            cheater = {"trainer": chain.trainers[0], "validator": chain.validators[0]}.get(self.cheat.role)
            cheats = f"; {cheater} is the one that cheats" if cheater else ""
            return f", trainers {', '.join(chain.trainers)}, validators {', '.join(chain.validators)}{cheats}"
        if chain.status == Status.REPORTED:
            out = [owner.address for owner in chain.owners if not owner.answered]
            return f", not counted as having answered: {', '.join(out)}" if out else ""
        return ""

    def _note(self, on_event: Callable[[Event], None], step: str, who: str, what: str) -> None:
        event = Event(time.monotonic() - self.started, step, who, self.stage.named(what))
        self.events.append(event)
        on_event(event)

    def _ended(self, chain: Training, records: dict[str, flow.Json]) -> Ended:
        stage = self.stage
        statistics = [stage.statistics[owner.address] for owner in chain.owners]
        trainers, validators = statistics[: chain.trainer_count], statistics[chain.trainer_count :]
        return Ended(
            cheat=self.cheat,
            chain=chain,
            reported=stage.market.reported(self.id),
            failure=stage.market.failure(self.id),
            dispute=stage.market.dispute(self.id),
            payments=tuple(stage.market.payments(self.id)),
            records=records,
            weights=records["buyer"]["weights"],
            validators=validators,
            honest=honest.honest_outcome(self.id, trainers, validators, HyperParameters(**HYPER_PARAMETERS)),
        )


@dataclass(frozen=True)
class Ended:
    """How a training with a cheat ended.

    Parameters
    ----------
    cheat : Cheat
    chain : Training
        As it is on chain.
    reported : Result or None
        What the aggregator reported.
    failure : str
        Why it was aborted, on chain; empty if it was not.
    dispute : Dispute or None
    payments : tuple of Payment
        All credits that it gave.
    records : mapping
        What every service says about it, by the service's name.
    weights : list of float or None
        The buyer's model.
    validators : list of GramStatistics
        Their rows.
    honest : Outcome
        What the training would have come to if everybody had been honest.
    """

    cheat: Cheat
    chain: Training
    reported: Result | None
    failure: str
    dispute: Dispute | None
    payments: tuple[Payment, ...]
    records: Mapping[str, flow.Json]
    weights: list[float] | None
    validators: list[GramStatistics]
    honest: protocol.Outcome

    @property
    def cheater(self) -> str | None:
        """Address of who cheated."""
        return {
            "buyer": self.chain.buyer,
            "aggregator": self.chain.aggregator,
            "trainer": self.chain.trainers[0],
            "validator": self.chain.validators[0],
        }.get(self.cheat.role)

    def received(self, address: str) -> int:
        """Return the wei that the escrow gave an account."""
        return sum(p.wei for p in self.payments if p.recipient == address and p.kind != PaymentKind.BOND)

    def honestly(self, address: str) -> int:
        """Return the wei that the escrow would have given an account if everybody had been honest."""
        return self.shares(honest.payments(self.chain.escrow, self.chain.terms.fixed_share, self.honest))[address]

    def shares(self, split: Split) -> dict[str, int]:
        """Return the wei of every party of a split, by address."""
        shares = {self.chain.buyer: split.buyer, self.chain.aggregator: split.aggregator}
        shares |= dict(zip(self.chain.trainers, split.trainers, strict=True))
        return shares | dict(zip(self.chain.validators, split.validators, strict=True))

    @property
    def refunded(self) -> bool:
        """Whether the buyer has to have its whole payment back."""
        return self.chain.status == Status.FAILED or (
            self.dispute is not None and self.dispute.outcome == Outcome.REFUND
        )

    def value(self) -> int:
        """Return the MSE, in 1e-18 units, of the buyer's model on the rows of the validators that answered."""
        assert self.weights is not None and self.chain.result is not None
        model = np.array(self.weights) / TARGET_SCALE
        answered = zip(self.validators, self.chain.result.validators_answered, strict=True)
        counted = [each for each, flag in answered if flag]
        return round(sum(each.rows * each.mse(model) for each in counted) / sum(e.rows for e in counted) * UNIT)

    def problems(self) -> list[str]:
        """Return what did not go as the protocol says; nothing, if all did."""
        return [*self._course(), *self._records(), *self._money(), *self._gain()]

    def _course(self) -> list[str]:
        found = []
        if self.chain.status != self.cheat.status:
            found.append(f"the training ended {self.chain.status.name}, not {self.cheat.status.name}")
        disputer = None if self.dispute is None else self._role(self.dispute.disputer)
        if disputer not in (self.cheat.disputers or (None,)):
            found.append(f"{disputer or 'nobody'} disputed, not {' or '.join(self.cheat.disputers) or 'nobody'}")
        outcome = None if self.dispute is None else self.dispute.outcome
        if outcome != self.cheat.outcome:
            found.append(f"the arbiter decided {outcome}, not {self.cheat.outcome}")
        return found

    def _records(self) -> list[str]:
        wanted = "FAILED" if self.refunded else "FINISHED"
        others = {name: record for name, record in self.records.items() if name != self.cheat.role}
        found = [
            f"{name} has the training as {record['status']}, not {wanted}"
            for name, record in others.items()
            if record["status"] != wanted
        ]
        reason = self.cheat.reason.format(buyer=self.chain.buyer)
        said = [self.failure, *(str(record["reason"]) for record in self.records.values())]
        if not any(reason in text for text in said):
            found.append(f"nobody's reason says {reason!r}: {said}")
        if self.refunded:
            silent = [name for name, record in self.records.items() if name != self.cheat.role and not record["reason"]]
            if silent:
                found.append(f"these do not say why it failed: {', '.join(silent)}")
        if (self.weights is None) != (self.chain.status == Status.FAILED) and not self.refunded:
            found.append("the buyer has no model of a training that it paid for")
        return found

    def _money(self) -> list[str]:
        found = []
        bond = 0 if self.dispute is None else self.chain.bond
        together = sum(payment.wei for payment in self.payments)
        if together != self.chain.escrow + bond:
            found.append(f"{together} wei were credited, and {self.chain.escrow} + {bond} were paid in")
        if self.dispute is not None:
            bonds = [(p.recipient, p.wei) for p in self.payments if p.kind == PaymentKind.BOND]
            if bonds != [(self.dispute.disputer, bond)]:
                found.append(f"the bond did not go back to the disputer: {bonds}")
        if self.refunded:
            if self.received(self.chain.buyer) != self.chain.escrow:
                found.append("the buyer did not get back all that it had paid")
            return found
        assert self.chain.result is not None
        split = settle(self.chain.escrow, self.chain.terms.fixed_share, self.chain.result)
        return [
            *found,
            *(
                f"{self._role(address)} {address} received {self.received(address)} wei instead of {wei}"
                for address, wei in self.shares(split).items()
                if self.received(address) != wei
            ),
        ]

    def _gain(self) -> list[str]:
        if self.cheater not in (None, self.chain.buyer):
            # An MSE has a little noise, so that what is paid for it may be as much above the one in plaintext.
            limit = self.honestly(self.cheater) * (1 + PRECISION)
            if self.received(self.cheater) > limit:
                return [f"the cheater received {self.received(self.cheater)} wei, and honestly {int(limit)}"]
        if self.weights is None or self.refunded:
            return []
        assert self.chain.result is not None
        paid, worth = self.chain.result.final_mse, self.value()
        if abs(paid - worth) > PRECISION * worth:
            return [f"the buyer paid for an MSE of {paid}, and its model has {worth}"]
        return []

    def _role(self, address: str) -> str:
        return {self.chain.buyer: "buyer", self.chain.aggregator: "aggregator"}.get(address, "owner")


def _step(status: Status, rounds: int) -> str:
    if status in (Status.TRAINING, Status.FAILED):
        return f"after {rounds} of {HYPER_PARAMETERS['iterations']} rounds"
    steps = {Status.OPEN: "joining", Status.CLOSED: "joining", Status.REPORTED: "review", Status.DISPUTED: "dispute"}
    return steps.get(status, "settlement")
