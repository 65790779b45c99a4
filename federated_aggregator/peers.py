"""What the aggregator says to buyers and owners."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import structlog
from gmpy2 import mpz

from commons.errors import InvalidInput, PeerRefused, PeerUnavailable, VerificationFailed
from commons.http.peer import Answered, Counter, Patience, Peers
from commons.protocol.messages import (
    Acknowledgement,
    Cosignature,
    Delivery,
    Message,
    Metric,
    MomentsStatement,
    Notice,
    Openings,
    Products,
    TotalStatement,
    Vector,
)
from commons.protocol.signed import Domain, Signed
from federated_aggregator.answer_times import AnswerTimes
from federated_aggregator.course import Course, Party

BRIEF = Patience(answer_s=10, total_s=0)
OFFER = Patience(answer_s=3, total_s=0)  # is made again and again, while joining waits for it
BUYER = Patience(answer_s=300, total_s=30)
DELIVERY = Patience(answer_s=300, total_s=0)  # whoever delivers has others to think of, and comes again

LOST_PART = 10
"""An owner that was lost is waited for this much shorter, so that one that hangs does not stop every round."""

Said = TypeVar("Said", bound=Message)

Asking = Callable[[Party, Patience], Answered[Said]]
"""Asks an owner, and returns its answer once it is verified."""

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
    times : AnswerTimes
        Notes how they answer.
    """

    def __init__(self, peers: Peers, timeout_s: float, times: AnswerTimes) -> None:
        self._peers = peers
        self._times = times
        self._patience = Patience(answer_s=timeout_s, total_s=timeout_s)
        self._patience_lost = Patience(answer_s=timeout_s / LOST_PART, total_s=0)
        self._executor = ThreadPoolExecutor(64, thread_name_prefix="owner")

    def ask(self, course: Course, parties: Mapping[int, Party], call: Asking[Said]) -> dict[int, Answered[Said]]:
        """Ask several owners the same, and return who answered what.

        Parameters
        ----------
        course : Course
            What they are asked about. Those of its owners that are lost get one try; who is lost is updated.
        parties : mapping
            Every owner to ask, by its place.
        call : callable
            Asks an owner, with that patience.

        Returns
        -------
        dict
            Answers by place. Who does not answer, or refuses, or answers nonsense, or what it did not sign, is left
            out.
        """

        def one(party: Party) -> Answered[Said] | None:
            patience = self._patience_lost if party.address in course.lost else self._patience
            try:
                with self._times.asking(course.id, party.address):
                    answer = call(party, patience)
            except (PeerUnavailable, PeerRefused, VerificationFailed, InvalidInput) as error:
                log.warning("owner left out", owner=party.address, error=f"{type(error).__name__}: {error}")
                course.lost.add(party.address)
                return None
            course.lost.discard(party.address)
            return answer

        futures = {place: self._executor.submit(one, party) for place, party in parties.items()}
        answers = {place: future.result() for place, future in futures.items()}
        return {place: answer for place, answer in answers.items() if answer is not None}

    def moments(self, training: uuid.UUID, question: Signed, vector: Decoding, count: Counter) -> Asking[Vector]:
        """Return the call that asks for the encrypted moments of a trainer's features."""
        return self._vector("POST", f"/trainings/{training}/moments", question, vector, count)

    def standardise(self, training: uuid.UUID, moments: Signed, count: Counter) -> Asking[Acknowledgement]:
        """Return the call that tells the opened sums by which an owner standardises."""

        def call(party: Party, patience: Patience) -> Answered[Acknowledgement]:
            url = f"{party.url}/trainings/{training}/moments"
            return self._peers.ask("PUT", url, moments, Acknowledgement, party.address, patience, count)

        return call

    def update(self, training: uuid.UUID, question: Signed, vector: Decoding, count: Counter) -> Asking[Vector]:
        """Return the call that asks for a round's encrypted update."""
        return self._vector("PUT", f"/trainings/{training}", question, vector, count)

    def local_model(self, training: uuid.UUID, question: Signed, vector: Decoding, count: Counter) -> Asking[Vector]:
        """Return the call that asks for an encrypted local model."""
        return self._vector("POST", f"/trainings/{training}", question, vector, count)

    def score(self, training: uuid.UUID, question: Signed, vector: Decoding, count: Counter) -> Asking[Vector]:
        """Return the call that asks for encrypted scores."""
        return self._vector("POST", f"/trainings/{training}/metrics", question, vector, count)

    def cosign(
        self,
        training: uuid.UUID,
        question: Signed,
        statement: TotalStatement | MomentsStatement,
        domain: Domain,
        count: Counter,
    ) -> Asking[Cosignature]:
        """Return the call that asks for an owner's signature of a statement."""
        content, kind = statement.pack(), type(statement)
        method, path = ("POST", "cosign") if isinstance(statement, TotalStatement) else ("PATCH", "moments")

        def call(party: Party, patience: Patience) -> Answered[Cosignature]:
            url = f"{party.url}/trainings/{training}/{path}"
            answer = self._peers.ask(method, url, question, Cosignature, party.address, patience, count)
            signed = Signed(content=content, signature=answer.content.signature)
            signed.verified(kind, domain, party.address)
            return answer

        return call

    def offer(self, parties: Sequence[Party], request: Signed, training: uuid.UUID) -> list[str]:
        """Ask several owners to take part, once, and return the addresses of those who took note."""

        def one(party: Party) -> bool:
            try:
                url = f"{party.url}/trainings"
                with self._times.asking(training, party.address):
                    self._peers.ask("POST", url, request, Acknowledgement, party.address, OFFER)
            except (PeerUnavailable, PeerRefused, VerificationFailed) as error:
                log.warning("owner not asked", owner=party.address, training=str(training), error=str(error))
                return False
            return True

        told = self._executor.map(one, parties)
        return [party.address for party, took_note in zip(parties, told, strict=True) if took_note]

    def tell(self, party: Party, content: Notice | Metric, count: Counter | None = None) -> None:
        """Tell an owner that something changed, or an MSE. It may miss it: the chain has both."""
        method, path = ("PATCH", "") if isinstance(content, Notice) else ("PUT", "/metrics")
        url = f"{party.url}/trainings/{content.training}{path}"
        try:
            with self._times.asking(content.training, party.address):
                self._peers.ask(method, url, self._peers.sign(content), Acknowledgement, party.address, BRIEF, count)
        except (PeerUnavailable, PeerRefused, VerificationFailed) as error:
            log.warning("owner not told", owner=party.address, error=str(error))

    def _vector(self, method: str, path: str, question: Signed, vector: Decoding, count: Counter) -> Asking[Vector]:
        def call(party: Party, patience: Patience) -> Answered[Vector]:
            answer = self._peers.ask(method, party.url + path, question, Vector, party.address, patience, count)
            vector(answer.content.ciphertexts)
            return answer

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

    def refresh(self, buyer: Party, training: uuid.UUID, question: Signed, count: Counter) -> Answered[Vector]:
        """Have a masked round divided: the ciphertexts of the quotients."""
        url = f"{buyer.url}/models/{training}"
        return self._peers.ask("PATCH", url, question, Vector, buyer.address, BUYER, count)

    def multiply(self, buyer: Party, training: uuid.UUID, question: Signed, count: Counter) -> Answered[Products]:
        """Have masked models multiplied with themselves: the ciphertexts of the products, and the proof."""
        url = f"{buyer.url}/models/{training}/mse"
        return self._peers.ask("POST", url, question, Products, buyer.address, BUYER, count)

    def open(self, buyer: Party, training: uuid.UUID, question: Signed, count: Counter) -> Answered[Openings]:
        """Have totals opened."""
        url = f"{buyer.url}/models/{training}/mse"
        return self._peers.ask("PATCH", url, question, Openings, buyer.address, BUYER, count)

    def open_moments(self, buyer: Party, training: uuid.UUID, question: Signed, count: Counter) -> Answered[Openings]:
        """Have sums of moments opened."""
        url = f"{buyer.url}/models/{training}/moments"
        return self._peers.ask("PATCH", url, question, Openings, buyer.address, BUYER, count)

    def deliver(self, buyer: Party, delivery: Delivery, count: Counter) -> None:
        """Deliver what unmasks the model."""
        url = f"{buyer.url}/models/{delivery.training}"
        self._peers.ask("PUT", url, self._peers.sign(delivery), Acknowledgement, buyer.address, DELIVERY, count)

    def tell(self, buyer: Party, training: uuid.UUID, count: Counter | None = None) -> None:
        """Tell the buyer that something changed on chain."""
        url = f"{buyer.url}/models/{training}/notice"
        try:
            notice = self._peers.sign(Notice(training=training))
            self._peers.ask("POST", url, notice, Acknowledgement, buyer.address, BRIEF, count)
        except (PeerUnavailable, PeerRefused, VerificationFailed) as error:
            log.warning("buyer not told", buyer=buyer.address, error=str(error))
