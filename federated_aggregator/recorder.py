"""Putting metrics on chain and telling the owners, beside the training, so that it need not wait."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import structlog

from commons.chain.connection import Connection
from commons.errors import DeltaMLError
from commons.protocol.messages import EvaluationKind, Notice
from federated_aggregator.course import Course
from federated_aggregator.evaluations import Evaluations
from federated_aggregator.peers import Buyer, Owners
from federated_aggregator.storage import Storage

log = structlog.get_logger()


class Recorder:
    """Records what was saved before: missing a beat loses nothing.

    Parameters
    ----------
    storage : Storage
        Has the metrics.
    evaluations : Evaluations
        Has their evidence.
    chain : Connection
        The way to the contract.
    owners, buyer
        Calls to the others.
    """

    def __init__(
        self, storage: Storage, evaluations: Evaluations, chain: Connection, owners: Owners, buyer: Buyer
    ) -> None:
        self._storage = storage
        self._evaluations = evaluations
        self._chain = chain
        self._owners = owners
        self._buyer = buyer
        self._lock = threading.Lock()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="recorder")

    def announce(self, course: Course) -> None:
        """Tell everybody, soon, that the training has begun."""
        self._soon(lambda: self._tell_start(course))

    def report(self, course: Course) -> None:
        """Record new metrics, soon."""
        self._soon(lambda: self.record(course))

    def record(self, course: Course) -> None:
        """Record every metric that is not on chain yet, now.

        Raises
        ------
        ChainUnavailable
            The chain does not answer; what was not recorded will be the next time.
        """
        with self._lock:
            market = self._chain.marketplace()
            saved = market.training(course.id).evaluations
            for metric in self._storage.metrics(course.id):
                if metric.iteration >= saved:
                    # Decided before the chain is waited for: at its end, a training that converged is measured again.
                    kind = self._kind(course, metric.iteration)
                    market.save_mse(course.id, metric.iteration, metric.mse)
                    if kind != "settlement":
                        self._tell(course, kind, metric.iteration)

    def settled(self, course: Course, rounds: int) -> None:
        """Tell the owners what the settlement measured, and the zero model again, if a validator was lost."""
        self._tell(course, "settlement", rounds)
        if self._evaluations.is_opened(course.id, "zero", 1):
            self._tell(course, "zero", 1)

    def _kind(self, course: Course, iteration: int) -> EvaluationKind:
        if iteration == 0:
            return "zero"
        return "iteration" if self._evaluations.is_opened(course.id, "iteration", iteration) else "settlement"

    def _tell(self, course: Course, kind: EvaluationKind, round_: int) -> None:
        with course.meter.phase("evaluation") as count:
            metric = self._evaluations.metric(course, kind, round_)
            for owner in course.owners:
                if owner.address not in course.lost:  # the chain tells it
                    self._owners.tell(owner, metric, count)

    def _tell_start(self, course: Course) -> None:
        with course.meter.phase("evaluation") as count:
            self._buyer.tell(course.buyer, course.id, count)
            for owner in course.owners:
                self._owners.tell(owner, Notice(training=course.id), count)

    def _soon(self, task: Callable[[], None]) -> None:
        def run() -> None:
            try:
                task()
            except DeltaMLError as error:
                log.warning("not recorded yet", error=str(error))

        self._executor.submit(run)
