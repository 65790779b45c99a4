"""Putting metrics on chain and telling the owners, beside the training, so that it need not wait."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import structlog

from commons.chain.connection import Connection
from commons.errors import DeltaMLError
from commons.protocol.messages import Metric, Notice
from federated_aggregator.course import Course
from federated_aggregator.peers import Buyer, Owners
from federated_aggregator.storage import Storage

log = structlog.get_logger()


class Recorder:
    """Records what was saved before: missing a beat loses nothing.

    Parameters
    ----------
    storage : Storage
        Has the metrics.
    chain : Connection
        The way to the contract.
    owners, buyer
        Calls to the others.
    """

    def __init__(self, storage: Storage, chain: Connection, owners: Owners, buyer: Buyer) -> None:
        self._storage = storage
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
                    market.save_mse(course.id, metric.iteration, metric.mse)
                    content = Metric(training=course.id, iteration=metric.iteration, mse=str(metric.mse))
                    with course.meter.phase("evaluation") as count:
                        for url in self._urls(course):
                            if url not in course.lost:  # the chain tells it
                                self._owners.tell(url, content, count)

    def _tell_start(self, course: Course) -> None:
        with course.meter.phase("evaluation") as count:
            self._buyer.tell(course.buyer_url, course.id, count)
            for url in self._urls(course):
                self._owners.tell(url, Notice(training=course.id), count)

    def _soon(self, task: Callable[[], None]) -> None:
        def run() -> None:
            try:
                task()
            except DeltaMLError as error:
                log.warning("not recorded yet", error=str(error))

        self._executor.submit(run)

    @staticmethod
    def _urls(course: Course) -> list[str]:
        return [*course.trainer_urls.values(), *course.validator_urls.values()]
