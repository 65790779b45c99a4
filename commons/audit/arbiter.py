"""The arbiter of a dispute at work: asks the parties for what they have, decides, and resolves on chain."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, cast
from uuid import UUID

import requests
from eth_account.signers.local import LocalAccount

from commons.audit import arbitration
from commons.audit.arbitration import Decision, Proven
from commons.audit.findings import Report
from commons.chain.marketplace import Marketplace, Status, Training
from commons.crypto.paillier import PublicKey
from commons.errors import Conflict, InvalidInput, PeerRefused, PeerUnavailable, VerificationFailed
from commons.http.peer import Patience, Peers
from commons.http.request_signing import RequestSigner
from commons.protocol import disputes, transcript
from commons.protocol.disputes import Claim, Evidence
from commons.protocol.messages import Acknowledgement, Delivery, TrainingRequest
from commons.protocol.signed import Domain, Signer
from commons.protocol.transcript import InvalidTranscript, Transcript

TIMEOUT_S = 60.0
PIECE_BYTES = 1 << 20
LARGEST_BYTES = 1 << 33

Auditing = Callable[[Transcript], Report]


@dataclass(frozen=True)
class Case:
    """What an arbiter found and decided. ``report`` and ``request`` are None if there was no transcript to audit."""

    report: Report | None
    request: TrainingRequest | None
    claim: Claim | None
    remarks: tuple[str, ...]
    decision: Decision


class Arbiter:
    """Decides disputes, as one account.

    Parameters
    ----------
    market : Marketplace
        The contract, acting as the arbiter.
    account : LocalAccount
        The same account, for signing requests.
    """

    def __init__(self, market: Marketplace, account: LocalAccount) -> None:
        self._market = market
        self._account = account
        self._domain = Domain(market.chain_id, market.address)

    def signer(self) -> Signer:
        """Return what signs as the arbiter."""
        return Signer(self._account, self._domain)

    def examine(self, training_id: UUID, aggregator_url: str, audit: Auditing) -> Case:
        """Ask for the transcript and the evidence, and decide. Nothing is changed.

        Parameters
        ----------
        training_id : UUID
        aggregator_url : str
            Base URL of the training's aggregator.
        audit : callable
            Audits a transcript.

        Raises
        ------
        Conflict
            The training is not disputed, or somebody else is its arbiter.
        PeerUnavailable
            The aggregator does not answer at all: perhaps it is only down. (One that answers and refuses loses.)
        """
        on_chain = self._disputed(training_id)
        assert on_chain.disputer is not None and on_chain.result is not None
        try:
            shown = self._transcript(training_id, aggregator_url)
            header = shown.header
            request = header.request.read(TrainingRequest)
            if request.training != training_id:
                raise InvalidTranscript(f"it is that of training {request.training}")
        except (PeerRefused, InvalidTranscript, VerificationFailed) as error:
            return Case(None, None, None, (), arbitration.withheld(str(error)))
        report = audit(shown)
        remarks = []
        claim, proven = None, Proven()
        try:
            evidence = self._evidence(on_chain, request, aggregator_url)
            claim = disputes.verify(
                evidence, training_id, on_chain.disputer, self._evidence_hash(training_id), self._domain
            )
            key = PublicKey.from_modulus(int(request.order.modulus, 16), request.order.hyper_parameters.key_bits)
            proven = arbitration.examine_copies(
                evidence.copies, on_chain.disputer, header, request, on_chain.result.iterations, key
            )
        except (PeerRefused, PeerUnavailable, InvalidInput, VerificationFailed) as error:
            remarks.append(f"{on_chain.disputer} disputed, and its evidence does not count: {error}")
        decision = arbitration.decide(report, on_chain.result, claim, proven, header)
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

    def _evidence_hash(self, training_id: UUID) -> bytes:
        dispute = self._market.dispute(training_id)
        if dispute is None:
            raise VerificationFailed("the node has lost the dispute")
        return dispute.evidence_hash

    def _transcript(self, training_id: UUID, url: str) -> Transcript:
        with self._download(f"{url}/model/{training_id}/transcript") as file:
            return transcript.read(file)

    def _evidence(self, on_chain: Training, request: TrainingRequest, aggregator_url: str) -> Evidence:
        if on_chain.disputer == on_chain.buyer:
            url = f"{request.buyer_url}/models/{on_chain.id}/evidence"
        else:
            url = f"{self._owner_url(on_chain.disputer or '', aggregator_url)}/trainings/{on_chain.id}/evidence"
        with self._download(url) as file:
            return disputes.read(file)

    def _owner_url(self, address: str, aggregator_url: str) -> str:
        with self._download(f"{aggregator_url}/dataowner") as file:
            listed = json.loads(file.read())
        urls = [owner["url"] for owner in listed["data_owners"] if owner["address"] == address]
        if not urls:
            raise PeerUnavailable(f"the aggregator does not say where {address} is")
        return str(urls[0])

    def _deliver(self, delivery: Delivery, request: TrainingRequest) -> None:
        peers = Peers(self)
        url = f"{request.buyer_url}/models/{request.training}"
        signed = peers.sign(delivery)
        peers.ask("PUT", url, signed, Acknowledgement, request.buyer, Patience(answer_s=TIMEOUT_S, total_s=TIMEOUT_S))

    @contextmanager
    def _download(self, url: str) -> Iterator[BinaryIO]:
        try:
            with requests.Session() as session, tempfile.TemporaryFile() as file:
                session.trust_env = False
                session.auth = RequestSigner(self._account)
                with session.get(url, timeout=TIMEOUT_S, stream=True, allow_redirects=False) as response:
                    if response.status_code != requests.codes.ok:
                        raise PeerRefused(url, response.status_code, response.text[:500])
                    size = 0
                    for piece in response.iter_content(PIECE_BYTES):
                        size += file.write(piece)
                        if size > LARGEST_BYTES:
                            raise PeerRefused(url, response.status_code, f"more than {LARGEST_BYTES} bytes")
                file.seek(0)
                yield cast(BinaryIO, file)
        except requests.RequestException as error:
            raise PeerUnavailable(f"{url} does not answer: {type(error).__name__}") from None
