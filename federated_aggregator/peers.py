"""What the aggregator says to buyers and owners."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

import structlog
from gmpy2 import mpz

from commons.errors import InvalidInput, PeerRefused, PeerUnavailable, VerificationFailed
from commons.http.peer import Counter, Patience, Peers
from commons.protocol.messages import (
    Acknowledgement,
    Delivery,
    LocalModelQuestion,
    Message,
    Metric,
    Notice,
    Openings,
    RoundQuestion,
    ScoreQuestion,
    TrainingRequest,
    Vector,
)

BRIEF = Patience(answer_s=10, total_s=0)
OFFER = Patience(answer_s=3, total_s=0)  # is made again and again, while joining waits for it
BUYER = Patience(answer_s=300, total_s=30)
DELIVERY = Patience(answer_s=300, total_s=0)  # whoever delivers has others to think of, and comes again

LOST_PART = 10
"""An owner that was lost is waited for this much shorter, so that one that hangs does not stop every round."""

Asking = Callable[[str, Patience], list[mpz]]
"""Asks the owner at a base URL for a vector."""

Decoding = Callable[[bytes], list[mpz]]
"""Decodes a vector and checks its length and its ciphertexts."""

log = structlog.get_logger()


class Owners:
    """Calls to data owners, all at once.

    Parameters
    ----------
    peers : Peers
        Connections to the other services.
    timeout_s : float
        How long an owner may take, retries included.
    """

    def __init__(self, peers: Peers, timeout_s: float) -> None:
        self._peers = peers
        self._patience = Patience(answer_s=timeout_s, total_s=timeout_s)
        self._patience_lost = Patience(answer_s=timeout_s / LOST_PART, total_s=0)
        self._executor = ThreadPoolExecutor(64, thread_name_prefix="owner")

    def ask(self, urls: Mapping[int, str], call: Asking, lost: set[str]) -> dict[int, list[mpz]]:
        """Ask several owners the same, and return who answered what.

        Parameters
        ----------
        urls : mapping
            Base URL of every owner, by its place.
        call : callable
            Asks the owner at a base URL, with that patience.
        lost : set of str
            URLs of those that did not answer the last time: they get one try. Updated.

        Returns
        -------
        dict
            Answers by place. Who does not answer, or refuses, or answers nonsense, is left out.
        """

        def one(url: str) -> list[mpz] | None:
            try:
                answer = call(url, self._patience_lost if url in lost else self._patience)
            except (PeerUnavailable, PeerRefused, VerificationFailed, InvalidInput) as error:
                log.warning("owner left out", owner=url, error=str(error))
                lost.add(url)
                return None
            lost.discard(url)
            return answer

        futures = {place: self._executor.submit(one, url) for place, url in urls.items()}
        answers = {place: future.result() for place, future in futures.items()}
        return {place: answer for place, answer in answers.items() if answer is not None}

    def update(self, question: RoundQuestion, vector: Decoding, count: Counter) -> Asking:
        """Return the call that asks for a round's encrypted update."""
        return self._vector("PUT", f"/trainings/{question.training}", question, vector, count)

    def local_model(self, question: LocalModelQuestion, vector: Decoding, count: Counter) -> Asking:
        """Return the call that asks for an encrypted local model."""
        return self._vector("POST", f"/trainings/{question.training}", question, vector, count)

    def score(self, question: ScoreQuestion, vector: Decoding, count: Counter) -> Asking:
        """Return the call that asks for encrypted scores."""
        return self._vector("POST", f"/trainings/{question.training}/metrics", question, vector, count)

    def offer(self, urls: Mapping[str, str], request: TrainingRequest) -> list[str]:
        """Ask several owners to take part, once, and return which of these (by whatever names) took note."""

        def one(url: str) -> bool:
            try:
                self._peers.call("POST", f"{url}/trainings", request, Acknowledgement, OFFER)
            except (PeerUnavailable, PeerRefused, VerificationFailed) as error:
                log.warning("owner not asked", owner=url, training=str(request.training), error=str(error))
                return False
            return True

        return [name for name, told in zip(urls, self._executor.map(one, urls.values()), strict=True) if told]

    def tell(self, url: str, content: Notice | Metric, count: Counter | None = None) -> None:
        """Tell an owner that something changed, or an MSE. It may miss it: the chain has both."""
        method, path = ("PATCH", "") if isinstance(content, Notice) else ("PUT", "/metrics")
        try:
            self._peers.call(
                method, f"{url}/trainings/{content.training}{path}", content, Acknowledgement, BRIEF, count
            )
        except (PeerUnavailable, PeerRefused, VerificationFailed) as error:
            log.warning("owner not told", owner=url, error=str(error))

    def _vector(self, method: str, path: str, question: Message, vector: Decoding, count: Counter) -> Asking:
        content = question.pack()  # once, for all of them

        def call(url: str, patience: Patience) -> list[mpz]:
            return vector(self._peers.call(method, url + path, content, Vector, patience, count).ciphertexts)

        return call


class Buyer:
    """Calls to the buyer of a training.

    Parameters
    ----------
    peers : Peers
        Connections to the other services.
    """

    def __init__(self, peers: Peers) -> None:
        self._peers = peers

    def refresh(self, url: str, training: uuid.UUID, question: bytes, count: Counter) -> bytes:
        """Have a masked round divided: the ciphertexts of the quotients."""
        return self._peers.call("PATCH", f"{url}/models/{training}", question, Vector, BUYER, count).ciphertexts

    def multiply(self, url: str, training: uuid.UUID, question: bytes, count: Counter) -> bytes:
        """Have masked models multiplied with themselves: the ciphertexts of the products."""
        return self._peers.call("POST", f"{url}/models/{training}/mse", question, Vector, BUYER, count).ciphertexts

    def open(self, url: str, training: uuid.UUID, question: bytes, count: Counter) -> Openings:
        """Have totals opened."""
        return self._peers.call("PATCH", f"{url}/models/{training}/mse", question, Openings, BUYER, count)

    def deliver(self, url: str, delivery: Delivery, count: Counter) -> None:
        """Deliver what unmasks the model."""
        self._peers.call("PUT", f"{url}/models/{delivery.training}", delivery, Acknowledgement, DELIVERY, count)

    def tell(self, url: str, training: uuid.UUID, count: Counter | None = None) -> None:
        """Tell the buyer that something changed on chain."""
        try:
            notice = Notice(training=training)
            self._peers.call("POST", f"{url}/models/{training}/notice", notice, Acknowledgement, BRIEF, count)
        except (PeerUnavailable, PeerRefused, VerificationFailed) as error:
            log.warning("buyer not told", buyer=url, error=str(error))
