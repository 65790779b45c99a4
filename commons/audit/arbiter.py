"""The arbiter of a dispute at work: asks the parties for what they have, decides, and resolves on chain."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import BinaryIO, TypeVar, cast
from uuid import UUID

import requests
import structlog
from eth_account.signers.local import LocalAccount
from pydantic import BaseModel
from urllib3.exceptions import HTTPError

from commons.audit import arbitration, onchain
from commons.audit.arbitration import Decision, Proven
from commons.audit.findings import Report
from commons.chain.marketplace import Marketplace, Status, Training
from commons.errors import Conflict, DeltaMLError, InvalidInput, PeerRefused, PeerUnavailable, VerificationFailed
from commons.http.peer import Patience, Peers
from commons.http.request_signing import RequestSigner
from commons.protocol import disputes, transcript
from commons.protocol.disputes import Claim, Evidence
from commons.protocol.messages import Acknowledgement, Address, Delivery, TrainingRequest, Url
from commons.protocol.signed import Domain, Signer
from commons.protocol.transcript import Transcript

TIMEOUT_S = 60.0
DEADLINE_S = 600.0
"""For a whole download, however slowly it comes."""
PIECE_BYTES = 1 << 16
LARGEST_BYTES = 1 << 30
LARGEST_LIST_BYTES = 1 << 24
PAUSE_S = 5.0
"""Before the second try, after which a refusal counts."""

REFUSALS = frozenset({HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND, HTTPStatus.GONE})
"""Answers that say no. Others are those of services that start, or are busy or broken, and of what is before them."""

Auditing = Callable[[Transcript], Report]
Answer = TypeVar("Answer")

log = structlog.get_logger()


class NoAnswer(PeerUnavailable):
    """The aggregator does not say whether it shows its transcript: perhaps it is only down."""


class NoEvidence(PeerUnavailable):
    """Somebody's evidence cannot be had, which may be another's doing."""


@dataclass(frozen=True)
class Case:
    """What an arbiter found and decided. ``report`` is None if there was nothing to audit, or it could not be.

    ``request`` is the buyer's, if the transcript is that of the training.
    """

    report: Report | None
    request: TrainingRequest | None
    claim: Claim | None
    remarks: tuple[str, ...]
    decision: Decision


class _Owner(BaseModel):
    address: Address
    url: Url


class _Owners(BaseModel):
    """What the aggregator lists, and perhaps more."""

    data_owners: tuple[_Owner, ...]


@dataclass(frozen=True)
class _Shown:
    """What somebody showed. ``remark`` says why its evidence does not count."""

    claim: Claim | None = None
    proven: Proven = Proven()
    remark: str | None = None


class Arbiter:
    """Decides disputes, as one account.

    Parameters
    ----------
    market : Marketplace
        The contract, acting as the arbiter.
    account : LocalAccount
        The same account, for signing requests.
    urls : mapping from str to str
        Where owners, or the buyer, are, by address: instead of what the aggregator, or the buyer's request, says.
    pause_s : float
        Seconds before the second try, after which a refusal counts.
    """

    def __init__(
        self,
        market: Marketplace,
        account: LocalAccount,
        urls: Mapping[str, str] | None = None,
        pause_s: float = PAUSE_S,
    ) -> None:
        self._market = market
        self._account = account
        self._domain = Domain(market.chain_id, market.address)
        self._urls = {address.lower(): url.rstrip("/") for address, url in (urls or {}).items()}
        self._pause_s = pause_s

    def signer(self) -> Signer:
        """Return what signs as the arbiter."""
        return Signer(self._account, self._domain)

    def examine(self, training_id: UUID, aggregator_url: str, audit: Auditing, without_evidence: bool = False) -> Case:
        """Ask for the transcript and the evidence, and decide. Nothing is changed.

        Nobody is asked for anything at a URL from a transcript that is not that of the training on chain.

        Parameters
        ----------
        training_id : UUID
        aggregator_url : str
            Base URL of the training's aggregator.
        audit : callable
            Replays a transcript.
        without_evidence : bool
            Decide even if somebody's evidence cannot be had.

        Raises
        ------
        Conflict
            The training is not disputed, or somebody else is its arbiter.
        NoAnswer
            The aggregator neither shows its transcript nor says no. (One that says no, twice, loses.)
        NoEvidence
            That of the disputer, or of an owner that is left out, cannot be had.
        ChainUnavailable, NoContract
            The node does not answer, or there is no marketplace.
        """
        on_chain = self._disputed(training_id)
        try:
            shown, request = self._twice(lambda: self._transcript(on_chain, aggregator_url))
        except (PeerRefused, InvalidInput, VerificationFailed) as error:
            return Case(None, None, None, (), arbitration.withheld(str(error)))
        try:
            report = audit(shown)
        except Exception as error:  # the aggregator put its hash on chain: it must not be worth anything to it
            log.exception("the transcript cannot be replayed", training=str(training_id), error=str(error))
            return Case(None, request, None, (), arbitration.no_result(type(error).__name__))
        report = onchain.compare(shown, report, onchain.facts(self._market, training_id))
        if report.result is None:  # no evidence changes what follows
            return Case(report, request, None, (), arbitration.no_result(str(report.first)))
        assert on_chain.disputer is not None
        asked = dict.fromkeys((on_chain.disputer, *arbitration.left_out(on_chain, report)))
        proven, remarks, claims = Proven(), [], {}
        for address in asked:
            try:
                found = self._evidence(address, on_chain, request, report.result.iterations, aggregator_url)
            except NoEvidence as error:
                if not without_evidence:
                    raise
                found = _Shown(remark=str(error))
            proven |= found.proven
            claims[address] = found.claim
            if found.remark is not None:
                remarks.append(found.remark)
        claim = claims[on_chain.disputer]
        decision = arbitration.decide(report, on_chain, claim, proven)
        return Case(report, request, claim, tuple(remarks), decision)

    def settle(self, training_id: UUID, case: Case) -> str | None:
        """Hand the model to the buyer, if it is to have it, and put the decision on chain.

        Returns
        -------
        str or None
            Why the buyer did not take the model.
        """
        refused = None
        if case.request is not None and case.decision.delivery is not None:
            try:
                self._deliver(case.decision.delivery, case.request)
            except (PeerRefused, PeerUnavailable, VerificationFailed) as error:
                refused = str(error)
        self._market.resolve(training_id, case.decision.outcome, case.decision.corrected)
        return refused

    def _disputed(self, training_id: UUID) -> Training:
        on_chain = self._market.training(training_id)
        if on_chain.status != Status.DISPUTED:
            raise Conflict(f"training {training_id} is {on_chain.status.name}: there is no dispute to decide")
        if on_chain.arbiter != self._account.address:
            raise Conflict(f"the arbiter of training {training_id} is {on_chain.arbiter}, not {self._account.address}")
        return on_chain

    def _twice(self, ask: Callable[[], Answer]) -> Answer:
        """Ask, and once more if the answer is no, or another than it has to be: whoever is asked may lag behind."""
        try:
            return ask()
        except (PeerRefused, InvalidInput, VerificationFailed) as error:
            log.warning("asking once more", error=str(error))
        time.sleep(self._pause_s)
        return ask()

    def _transcript(self, on_chain: Training, url: str) -> tuple[Transcript, TrainingRequest]:
        try:
            with self._download(f"{url}/model/{on_chain.id}/transcript", LARGEST_BYTES) as file, _reading():
                shown = transcript.read(file)
                return shown, arbitration.require_same(shown, on_chain, self._domain)
        except PeerUnavailable as error:
            raise NoAnswer(f"the aggregator neither shows its transcript nor says no: {error}") from None

    def _evidence(
        self, address: str, on_chain: Training, request: TrainingRequest, iterations: int, aggregator_url: str
    ) -> _Shown:
        """Return what somebody shows.

        What comes from a URL that is the aggregator's word counts only if it is signed by who is asked: the aggregator
        may have sent the arbiter elsewhere.

        Raises
        ------
        NoEvidence
            It cannot be had.
        """
        is_buyer, known = address == on_chain.buyer, address.lower() in self._urls
        hash_ = self._evidence_hash(on_chain.id) if address == on_chain.disputer else None
        whose = f"the evidence of {address}, {_why(address, on_chain)},"
        try:
            if is_buyer:
                url = f"{self._urls.get(address.lower(), request.buyer_url)}/models/{on_chain.id}/evidence"
            else:
                url = f"{self._owner_url(address, aggregator_url, on_chain.id)}/trainings/{on_chain.id}/evidence"
            evidence = self._twice(lambda: self._own_evidence(url, address))
        except (PeerRefused, InvalidInput, VerificationFailed) as error:
            if is_buyer or known:
                return _Shown(remark=f"{whose} does not count: {error}")
            raise NoEvidence(f"{whose} cannot be had where the aggregator says: {error}. {_ADVICE}") from None
        except PeerUnavailable as error:
            raise NoEvidence(f"{whose} cannot be had: {error}. {_ADVICE}") from None
        try:
            claim = disputes.verify(evidence, on_chain.id, address, hash_, self._domain)
        except VerificationFailed as error:
            return _Shown(remark=f"{whose} does not count: {error}")
        return _Shown(claim, arbitration.examine_copies(evidence.copies, address, on_chain, request, iterations))

    def _own_evidence(self, url: str, address: str) -> Evidence:
        with self._download(url, LARGEST_BYTES) as file, _reading():
            evidence = disputes.read(file)
            evidence.signed.verified(Claim, self._domain, address)
            return evidence

    def _evidence_hash(self, training_id: UUID) -> bytes:
        dispute = self._market.dispute(training_id)
        if dispute is None:
            raise Conflict(f"the node has lost the dispute of training {training_id}: try again")
        return dispute.evidence_hash

    def _owner_url(self, address: str, aggregator_url: str, training_id: UUID) -> str:
        if address.lower() in self._urls:
            return self._urls[address.lower()]
        url = f"{aggregator_url}/dataowner?address={address}&training={training_id}"
        with self._download(url, LARGEST_LIST_BYTES) as file:
            data = file.read()
        try:
            owners = _Owners.model_validate_json(data).data_owners
            (url,) = {owner.url for owner in owners if owner.address.lower() == address.lower()}
        except ValueError:
            raise PeerUnavailable("the aggregator does not say where it is") from None
        return url

    def _deliver(self, delivery: Delivery, request: TrainingRequest) -> None:
        peers = Peers(self)
        url = f"{self._urls.get(request.buyer.lower(), request.buyer_url)}/models/{request.training}"
        signed = peers.sign(delivery)
        peers.ask("PUT", url, signed, Acknowledgement, request.buyer, Patience(answer_s=TIMEOUT_S, total_s=TIMEOUT_S))

    @contextmanager
    def _download(self, url: str, largest: int) -> Iterator[BinaryIO]:
        """Yield a temporary file with what is at a URL.

        Raises
        ------
        PeerRefused
            The answer says no.
        PeerUnavailable
            There is none, or none that says yes or no, or not a whole one, in time.
        """
        with tempfile.TemporaryFile() as temporary:
            file, done = cast(BinaryIO, temporary), Future[None]()
            # In a thread that is left alone when time is up: byte after byte never exceeds a socket's timeout.
            threading.Thread(target=self._fetch, args=(url, largest, file, done), daemon=True).start()
            try:
                done.result(DEADLINE_S)
            except TimeoutError:
                raise PeerUnavailable(f"{url} has not answered in {DEADLINE_S:g} s") from None
            except (requests.RequestException, HTTPError, ValueError) as error:  # a URL that is none, too
                raise PeerUnavailable(f"{url} does not answer: {type(error).__name__}") from None
            file.seek(0)
            yield file

    def _fetch(self, url: str, largest: int, file: BinaryIO, done: Future[None]) -> None:
        try:
            self._write(url, largest, file, time.monotonic() + DEADLINE_S)
            done.set_result(None)
        except BaseException as error:
            done.set_exception(error)

    def _write(self, url: str, largest: int, file: BinaryIO, deadline: float) -> None:
        with requests.Session() as session:
            session.trust_env = False
            session.auth = RequestSigner(self._account)
            with session.get(url, timeout=TIMEOUT_S, stream=True, allow_redirects=False) as response:
                if response.status_code != HTTPStatus.OK:
                    raise _refusal(url, response)
                if not any(name in response.headers for name in ("Content-Length", "Transfer-Encoding")):
                    raise PeerUnavailable(f"{url} does not say how much it sends, so that half of it looks like all")
                for piece in response.iter_content(PIECE_BYTES):
                    if file.write(piece) and (file.tell() > largest or time.monotonic() > deadline):
                        raise PeerUnavailable(f"{url} sends more than {largest} bytes, or for {DEADLINE_S:g} s")


@contextmanager
def _reading() -> Iterator[None]:
    """Turn whatever goes wrong with what somebody made up into its being invalid."""
    try:
        yield
    except DeltaMLError:
        raise
    except Exception as error:
        raise InvalidInput(f"it cannot be read: {type(error).__name__}") from error


_ADVICE = "Say where it is with --owner ADDRESS=URL, or decide with --without-evidence"


def _why(address: str, on_chain: Training) -> str:
    return "who disputes" if address == on_chain.disputer else "who is said not to have answered"


def _refusal(url: str, response: requests.Response) -> DeltaMLError:
    said = response.raw.read(500, decode_content=True).decode(errors="replace")
    detail = "".join(char for char in said if char.isprintable())
    if response.status_code in REFUSALS:
        return PeerRefused(url, response.status_code, detail)
    return PeerUnavailable(f"{url} answered {response.status_code}, which is neither yes nor no: {detail}")
