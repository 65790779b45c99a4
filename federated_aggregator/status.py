"""How the service is doing, as its operator wants to know: trainings, their rounds, owners, the chain.

Made of what is stored, of how owners answered, and of what was last seen of the chain, so that it is cheap to ask again
and again. It shows what the aggregator has to know to do its work, and nothing that is encrypted or masked.
"""

from __future__ import annotations

import threading
import uuid
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Generic, Literal, TypeVar, get_args

from commons.chain.connection import Connection
from commons.database import now
from commons.driver import Driver
from commons.http.documents import Page
from commons.learning.contributions import UNIT
from commons.lookout import Lookout, Seen
from commons.protocol.messages import Order
from commons.protocol.transcript import Header, name
from federated_aggregator.answer_times import Answers, AnswerTimes, Failure, nearest_rank
from federated_aggregator.api.models import Phase
from federated_aggregator.chain_view import ChainView, ChainViews, TrainingView
from federated_aggregator.storage import Status, Storage, Training
from federated_aggregator.transcripts import Transcripts

LATEST_ROUNDS = 10
"""Rounds that the present pace is that of."""
SHOWN_FAILURES = 20
"""Trainings that failed, and questions that were not answered, in the overview."""
KEPT = 256
"""Trainings of which what does not change is kept in memory."""
PATIENCE_S = 1.0
"""How long a page waits for the chain, before it shows what was seen last. What keeps it up to date does not wait."""
NEWEST = 2**31 - 1
"""A round that no training comes to."""

UNFINISHED = (Status.INITIATED, Status.IN_PROGRESS)

Stage = Literal["joining", "preparing", "rounds", "settling", "delivering", "review", "over"]
"""What a training is doing: what comes before the first round is *preparing*; *delivering* waits for the buyer to take
the model, *review* for the parties to confirm or dispute the result."""

Milestone = Literal["ordered", "begun", "prepared", "first_round", "last_round", "settled", "ended"]
"""What a training comes to: *prepared* has the models that the trainers' data alone give."""

Known = TypeVar("Known")


@dataclass(frozen=True)
class Facts:
    """What a training's messages say about it: who trains and validates once it has begun, by address."""

    order: Order
    begun: bool = False
    trainers: tuple[str, ...] = ()
    validators: tuple[str, ...] = ()


@dataclass(frozen=True)
class Line:
    """A training among others.

    Parameters
    ----------
    training : Training
    stage : str
        What it is doing.
    since : datetime
        Since when.
    rounds, most_rounds : int
        That were collected, and that were ordered.
    pace, mean_pace : float or None
        Rounds per minute: of the last ones until now, and of all; None where nothing says it.
    owners : int or None
        Who takes part, or has accepted; None as long as it is not known.
    wanted_owners : int
        As ordered.
    failures : int
        Questions that owners did not answer, since this process started.
    trouble : str or None
        What its last step failed for, and it waits for.
    """

    training: Training
    stage: Stage
    since: datetime
    rounds: int
    most_rounds: int
    pace: float | None
    mean_pace: float | None
    owners: int | None
    wanted_owners: int
    failures: int = 0
    trouble: str | None = None

    @property
    def over(self) -> bool:
        """Whether nothing will change any more."""
        return self.stage == "over"


@dataclass(frozen=True)
class OwnerLine:
    """An owner, and how it has answered; without URL it never registered here."""

    address: str
    role: Literal["trainer", "validator"] | None
    url: str | None
    registered: datetime | None
    answers: Answers


@dataclass(frozen=True)
class Overview:
    """The service at a glance.

    Parameters
    ----------
    at, since : datetime
        Now, and the start of this process.
    running : sequence of Line
        Every unfinished training.
    lines : sequence of Line
        Some of all `total` trainings, the newest first.
    failed : sequence of Training
        The latest that failed.
    owners : sequence of OwnerLine
        Some of all `total_owners` owners, the first first.
    failures : sequence of Failure
        The latest questions that owners did not answer.
    failed_questions : int
        How many were not, as far as they are kept.
    chain : Seen of ChainView
    busy : int
        Trainings that are being advanced just now.
    """

    at: datetime
    since: datetime
    running: Sequence[Line]
    lines: Sequence[Line]
    total: int
    failed: Sequence[Training]
    owners: Sequence[OwnerLine]
    total_owners: int
    failures: Sequence[Failure]
    failed_questions: int
    chain: Seen[ChainView]
    busy: int

    @property
    def pace(self) -> float:
        """Rounds per minute of all trainings."""
        return sum(line.pace or 0.0 for line in self.running)


@dataclass(frozen=True)
class Step:
    """Something that a training has come to: when, and how many seconds after the one before."""

    name: Milestone
    at: datetime
    took_s: float | None


@dataclass(frozen=True)
class Detail:
    """One training.

    Parameters
    ----------
    at, since : datetime
        Now, and the start of this process.
    line : Line
    steps : sequence of Step
        Its course so far.
    phases : sequence of (name, seconds, bytes)
        What they took so far, in all.
    durations : sequence of float
        Seconds of rounds 1, 2, …, each from the end of the one before; they include what was done in between.
    metrics : sequence of (iteration, MSE)
        As they are on chain, in squared units of the target.
    owners : sequence of OwnerLine
        Trainers, then validators.
    failures : sequence of Failure
        Questions that they did not answer, the latest first.
    entries, size : int
        Of the transcript: records and bytes.
    root : str or None
        Its Merkle root, in hexadecimal, once there is a result.
    chain : Seen of TrainingView
    """

    at: datetime
    since: datetime
    line: Line
    steps: Sequence[Step]
    phases: Sequence[tuple[Phase, float, int]]
    durations: Sequence[float]
    metrics: Sequence[tuple[int, float]]
    owners: Sequence[OwnerLine]
    failures: Sequence[Failure]
    entries: int
    size: int
    root: str | None
    chain: Seen[TrainingView]

    @property
    def over(self) -> bool:
        """Whether nothing will change any more, here and as far as it is known on chain."""
        return self.line.over and self.chain.view is not None and self.chain.view.status.is_final

    def round_s(self, share: float) -> float | None:
        """Return the seconds that so large a share of the rounds took at most."""
        return nearest_rank(sorted(self.durations), share)


class Memory(Generic[Known]):
    """What is known of trainings: of :data:`KEPT`, those that were asked for last. Safe from several threads."""

    def __init__(self) -> None:
        self._known: OrderedDict[uuid.UUID, Known] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, training_id: uuid.UUID) -> Known | None:
        """Return what is known of a training."""
        with self._lock:
            if training_id in self._known:
                self._known.move_to_end(training_id)
            return self._known.get(training_id)

    def put(self, training_id: uuid.UUID, known: Known) -> Known:
        """Keep it, and return it."""
        with self._lock:
            self._known[training_id] = known
            self._known.move_to_end(training_id)
            if len(self._known) > KEPT:
                self._known.popitem(last=False)
        return known


class Watch:
    """Says how the service is doing.

    Parameters
    ----------
    storage : Storage
        Trainings, owners, phases, metrics.
    transcripts : Transcripts
        Rounds.
    chain : Connection
        The way to the contract, as the aggregator's account.
    times : AnswerTimes
        How owners answered.
    driver : Driver
        Advances trainings.
    """

    def __init__(
        self, storage: Storage, transcripts: Transcripts, chain: Connection, times: AnswerTimes, driver: Driver
    ) -> None:
        self._storage = storage
        self._transcripts = transcripts
        self._address = chain.address
        self._times = times
        self._driver = driver
        views = ChainViews(chain)
        self._chain = Lookout(views.chain)
        self._on_chain = Lookout(views.training)
        self._facts = Memory[Facts]()
        self._rounds = Memory[list[datetime]]()
        self._finished = Memory[Line]()

    def overview(self, trainings: Page, owners: Page, patience_s: float) -> Overview:
        """Return the service at a glance.

        Parameters
        ----------
        trainings, owners : Page
            Which of them.
        patience_s : float
            Seconds to wait for the chain at most.
        """
        found, total = self._storage.training_page(trainings.limit, trainings.offset)
        registered, total_owners = self._storage.data_owner_page(owners.limit, owners.offset)
        failures = self._times.failures()
        counts: Counter[uuid.UUID] = Counter()
        for failure in failures:
            counts[failure.training] += failure.count
        unfinished = self._storage.trainings(UNFINISHED)
        lines = {each.id: self._line(each, counts) for each in (*found, *unfinished)}
        return Overview(
            at=now(),
            since=self._times.since,
            running=[lines[each.id] for each in unfinished],
            lines=[lines[each.id] for each in found],
            total=total,
            failed=self._storage.trainings((Status.FAILED,), SHOWN_FAILURES),
            owners=[
                OwnerLine(each.address, None, each.url, each.registered, self._times.of(each.address))
                for each in registered
            ],
            total_owners=total_owners,
            failures=failures[:SHOWN_FAILURES],
            failed_questions=sum(counts.values()),
            chain=self._chain.see(self._address, patience_s),
            busy=len(self._driver.busy()),
        )

    def training(self, training_id: uuid.UUID, patience_s: float) -> Detail:
        """Return one training; NotFound if there is none of that id. `patience_s` as for the overview."""
        training = self._storage.training(training_id)
        failures = self._times.failures(training_id)
        line = self._line(training, {training_id: sum(failure.count for failure in failures)})
        facts = self._known(training)
        rounds = self._collected(training_id)
        urls = {each.address: each for each in self._storage.data_owners()}
        phases = {phase.name: phase for phase in self._storage.phases(training_id)}
        scale = facts.order.target_scale**2 / UNIT
        entries, size = self._transcripts.size(training_id)
        roles: list[tuple[str, Literal["trainer", "validator"]]] = [
            *((address, "trainer") for address in facts.trainers),
            *((address, "validator") for address in facts.validators),
        ]
        return Detail(
            at=now(),
            since=self._times.since,
            line=line,
            steps=self._steps(training, line, rounds),
            phases=[(each, phases[each].seconds, phases[each].bytes) for each in get_args(Phase) if each in phases],
            durations=[(after - before).total_seconds() for before, after in zip(rounds, rounds[1:], strict=False)],
            metrics=[(metric.iteration, metric.mse * scale) for metric in self._storage.metrics(training_id)],
            owners=[
                OwnerLine(
                    address,
                    role,
                    urls[address].url if address in urls else None,
                    urls[address].registered if address in urls else None,
                    self._times.of(address, training_id),
                )
                for address, role in roles
            ],
            failures=failures,
            entries=entries,
            size=size,
            root=None if training.outcome is None else training.outcome["transcript_root"],
            chain=self._on_chain.see(training_id, patience_s),
        )

    def _line(self, training: Training, failures: Mapping[uuid.UUID, int]) -> Line:
        over = training.status not in UNFINISHED
        line = (self._finished.get(training.id) if over else None) or self._drawn(training)
        if over:
            self._finished.put(training.id, line)
        trouble = None if over else self._driver.trouble(training.id)
        return replace(line, training=training, failures=failures.get(training.id, 0), trouble=trouble)

    def _drawn(self, training: Training) -> Line:
        facts = self._known(training)
        # Of what is over, only the ends are read: in a list there may be many.
        rounds = self._ends(training.id) if training.status not in UNFINISHED else self._collected(training.id)
        count = (self._transcripts.last(training.id, "round") or 0) + 1 if rounds else 0
        stage, since = self._stage(training, facts, rounds)
        if facts.begun:
            owners: int | None = len(facts.trainers) + len(facts.validators)
        else:
            view = None if stage == "over" else self._on_chain.see(training.id).view
            owners = None if view is None else view.accepted
        return Line(
            training=training,
            stage=stage,
            since=since,
            rounds=count,
            most_rounds=facts.order.hyper_parameters.iterations,
            pace=_pace(rounds, now()) if stage == "rounds" else None,
            mean_pace=_per_minute(count - 1, rounds[0], rounds[-1]) if rounds else None,
            owners=owners,
            wanted_owners=facts.order.participants.wanted,
        )

    def _known(self, training: Training) -> Facts:
        facts = self._facts.get(training.id) or Facts(training.parsed_request.order)
        if not facts.begun:
            header = self._transcripts.find(training.id, "header", 0, Header)
            if header is not None:
                facts = Facts(facts.order, True, tuple(header.trainers), tuple(header.validators))
            self._facts.put(training.id, facts)
        return facts

    def _collected(self, training_id: uuid.UUID) -> list[datetime]:
        """Return when every round was collected: only those since the last call are read."""
        known = self._rounds.get(training_id) or []
        new = self._transcripts.times(training_id, "round", len(known), NEWEST)
        return self._rounds.put(training_id, known + list(new.values())) if new else known

    def _ends(self, training_id: uuid.UUID) -> list[datetime]:
        last = self._transcripts.last(training_id, "round")
        if last is None:
            return []
        return [self._transcripts.times(training_id, "round", each, each)[each] for each in (0, last)]

    def _first(self, training_id: uuid.UUID, kind: str) -> datetime | None:
        times = self._transcripts.times(training_id, kind, 0, NEWEST)
        return min(times.values(), default=None)

    def _stage(self, training: Training, facts: Facts, rounds: Sequence[datetime]) -> tuple[Stage, datetime]:
        if training.status not in UNFINISHED:
            return "over", training.updated
        if training.status == Status.INITIATED:
            return "joining", training.created
        if training.outcome is not None:
            return ("review" if training.delivered else "delivering"), training.updated
        if not rounds:
            return "preparing", self._first(training.id, "header") or training.updated
        settling = self._first(training.id, name("mask", "settlement"))
        if settling is None and len(rounds) == facts.order.hyper_parameters.iterations:
            settling = rounds[-1]
        return ("rounds", rounds[0]) if settling is None else ("settling", settling)

    def _steps(self, training: Training, line: Line, rounds: Sequence[datetime]) -> list[Step]:
        reached: list[tuple[Milestone, datetime | None]] = [
            ("ordered", training.created),
            ("begun", self._first(training.id, "header")),
            ("prepared", self._first(training.id, "local")),
            ("first_round", rounds[0] if rounds else None),
            ("last_round", rounds[-1] if rounds and line.stage != "rounds" else None),
            ("settled", self._first(training.id, name("opening", "settlement"))),
            ("ended", training.updated if line.over else None),
        ]
        steps: list[Step] = []
        for milestone, at in reached:
            if at is not None:
                steps.append(Step(milestone, at, (at - steps[-1].at).total_seconds() if steps else None))
        return steps


def _per_minute(rounds: int, begin: datetime, end: datetime, idle_s: float = 0.0) -> float | None:
    seconds = (end - begin).total_seconds() + idle_s
    return 60 * rounds / seconds if rounds and seconds > 0 else None


def _pace(rounds: Sequence[datetime], at: datetime) -> float | None:
    """Return rounds per minute: of the latest ones, and less when the next one takes longer than they did."""
    latest = rounds[-1 - LATEST_ROUNDS :]
    usual_s = (latest[-1] - latest[0]).total_seconds() / max(1, len(latest) - 1)
    waited_s = (at - latest[-1]).total_seconds()
    return _per_minute(len(latest) - 1, latest[0], latest[-1], max(0.0, waited_s - usual_s))
