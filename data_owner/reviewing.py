"""Checking a reported result: against the MSEs that were told, with their evidence, and against this owner's journal.

What differs is disputed on chain by the service itself. What it was never told it cannot check, and says so.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from commons.chain.arbitration import require_arbiter
from commons.chain.connection import Connection
from commons.chain.marketplace import ChainUnavailable, Result
from commons.chain.marketplace import Status as ChainStatus
from commons.chain.marketplace import Training as OnChain
from commons.crypto.paillier import PublicKey
from commons.errors import Conflict, DeltaMLError, NotFound, VerificationFailed
from commons.http.signatures import Question
from commons.journal import Journal
from commons.learning.local_steps import relative_weights
from commons.protocol import disputes
from commons.protocol.disputes import Claim, Copy, Difference
from commons.protocol.messages import Acknowledgement, Metric, Order, TotalStatement
from commons.protocol.outcome import ANSWERED_SHARE
from commons.protocol.signed import Domain, Signed
from commons.protocol.totals import Claimed, read_metric, verify_claims
from data_owner.exchanges import METRIC, UPDATE, Name, score_name
from data_owner.storage import Status, Storage, Training

Told = tuple[str, Metric, Claimed]
"""A metric, the kind under which it is in the journal, and what its evidence claims."""

AGAIN: Name = ("zero", 1)
"""The zero model scored once more, by the validators that are left: the result's, but not the history's."""

log = structlog.get_logger()


@dataclass
class Findings:
    """What a review found: what differs, and what could not be checked."""

    differences: list[Difference] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    def compare(self, what: str, reported: object, computed: object) -> None:
        """Note a difference, if there is one."""
        if reported != computed:
            self.differences.append(Difference(what, str(reported), str(computed)))

    def disprove(self, kind: str, metric: Metric, error: Exception) -> None:
        """Note a metric whose evidence does not hold."""
        told = f"{metric.mse}, with evidence"
        self.compare(f"the MSE of iteration {metric.iteration} ({kind})", told, f"none: {error}")

    def __str__(self) -> str:
        """Say everything in one line; empty when there is nothing to say."""
        unchecked = [f"not checked, as it was never told: {', '.join(self.unknown)}"] if self.unknown else []
        return "; ".join([*map(str, self.differences), *unchecked])


class Reviewing:
    """The owner's checks of reported results.

    Parameters
    ----------
    storage, journal
        The owner's tables, and what it was asked and told.
    chain : Connection
        The way to the contract, as the owner's account.
    """

    def __init__(self, storage: Storage, journal: Journal, chain: Connection) -> None:
        self._storage = storage
        self._journal = journal
        self._chain = chain

    def take_note(self, question: Question[Metric]) -> Signed:
        """Keep an MSE that the aggregator tells, with its evidence, which is verified in the review.

        Returns
        -------
        Signed
            An :class:`Acknowledgement`.

        Raises
        ------
        VerificationFailed
            It has no evidence at all.
        Conflict
            The aggregator has told another one of the same evaluation.
        """
        metric = question.content
        statement = Signed(content=metric.statement, signature=b"").read(TotalStatement)
        answer = self._journal.once(
            metric.training,
            f"{METRIC}{statement.kind}",
            statement.round,
            question.signed.pack(),
            lambda: self._chain.signer().sign(Acknowledgement(), question.signed).pack(),
        )
        if (statement.kind, statement.round) != AGAIN:
            self._storage.add_metric(metric.training, metric.iteration, int(metric.mse))
        return Signed.unpack(answer)

    def review(self, training: Training, on_chain: OnChain) -> Training:
        """Check a reported result, once, and dispute what is wrong with it while that is possible.

        What is claimed is saved before it goes on chain: a service that was killed in between claims the same again.
        """
        if not training.reviewed:
            training = self._compare(training, on_chain)
        if on_chain.disputer is not None and (training.dispute is None or on_chain.status == ChainStatus.FINISHED):
            return self._note_dispute(training)
        if training.claim is not None and on_chain.status == ChainStatus.REPORTED:
            return self._dispute(training, Signed.unpack(training.claim), on_chain)
        return training

    def evidence(self, training_id: uuid.UUID, caller: str) -> Iterator[bytes]:
        """Return the pieces of an evidence file: this owner's claim, signed, and the copies that it names.

        Parameters
        ----------
        training_id : UUID
        caller : str
            Who asks for it.

        Raises
        ------
        NotAuthorised
            Not the training's arbiter asks, or there is no dispute now.
        NotFound
            This owner knows no such training, or claims nothing about it.
        """
        training = self._storage.training(training_id)
        require_arbiter(self._chain.marketplace(), training_id, caller)
        if training.claim is None:
            raise NotFound(f"the dispute of training {training_id} is somebody else's: this owner claims nothing")
        signed = Signed.unpack(training.claim)
        return disputes.write(signed, self._copies(training_id, signed.read(Claim).exchanges))

    def _compare(self, training: Training, on_chain: OnChain) -> Training:
        assert on_chain.result is not None
        names = self._journal.names(training.id)
        findings = Findings()
        proven = self._verify(training, on_chain, names, findings)
        self._check_mses(on_chain, proven, findings)
        self._check_history(training.id, proven, findings)
        self._check_answered(on_chain, on_chain.result, names, findings)
        claim = None
        if findings.differences:
            log.error("the reported result is wrong", training=str(training.id), findings=str(findings))
            claimed = disputes.claim(
                training.id, self._chain.address, findings.differences, self._copies(training.id, names)
            )
            claim = self._chain.signer().sign(claimed).pack()
        return self._storage.move(
            training.id,
            Status(training.status),
            reviewed=True,
            reason=str(findings) or training.reason,
            claim=claim,
        )

    def _verify(
        self, training: Training, on_chain: OnChain, names: Sequence[Name], findings: Findings
    ) -> dict[Name, Claimed]:
        """Verify every metric that was told; return what those prove that hold."""
        checker = _Checker.of(training.parsed_order, on_chain, self._chain.signer().domain)
        claimed: list[Told] = []
        for kind, round_ in names:
            if not kind.startswith(METRIC):
                continue
            entry = self._journal.find(training.id, kind, round_)
            assert entry is not None
            metric = Signed.unpack(entry.question).read(Metric)
            try:
                claimed.append((kind, metric, checker.read(metric)))
            except DeltaMLError as error:
                findings.disprove(kind, metric, error)
        proven: dict[Name, Claimed] = {}
        for _, metric, claim in checker.verified(claimed, findings):
            name = claim.statement.kind, claim.statement.round
            proven[name] = claim
            if name != AGAIN:
                self._storage.add_metric(training.id, metric.iteration, claim.mses[0], verified=True)
        return proven

    @staticmethod
    def _check_mses(on_chain: OnChain, proven: Mapping[Name, Claimed], findings: Findings) -> None:
        result = on_chain.result
        assert result is not None
        settlements = [found for (kind, _), found in proven.items() if kind == "settlement"]
        if not settlements:
            findings.unknown.append("the MSE of the result")
            return
        (settlement, *_) = settlements
        findings.compare("the number of iterations", result.iterations, settlement.statement.round)
        findings.compare("the final MSE", result.final_mse, min(settlement.mses))
        # Over the settlement's validators: once more at the end, if one was lost since the start.
        zeros = [proven[name] for name in (AGAIN, ("zero", 0)) if name in proven]
        of_same = [zero for zero in zeros if zero.statement.validators == settlement.statement.validators]
        if of_same:
            findings.compare("the initial MSE", result.initial_mse, of_same[0].mses[0])
        else:
            findings.unknown.append("the initial MSE")

    def _check_history(self, training_id: uuid.UUID, proven: Mapping[Name, Claimed], findings: Findings) -> None:
        # A training that converged is measured twice after its last round, and either is right.
        known: dict[int, set[int]] = {}
        for name, found in proven.items():
            if name != AGAIN:
                known.setdefault(found.statement.round, set()).add(found.mses[0])
        unknown = []
        for iteration, mse in self._chain.marketplace().history(training_id):
            mses = known.get(iteration)
            if mses is None:
                unknown.append(str(iteration))
            elif mse not in mses:
                findings.compare(f"the MSE on chain of iteration {iteration}", mse, min(mses))
        if unknown:
            findings.unknown.append(f"the MSE of iterations {', '.join(unknown)}")

    def _check_answered(self, on_chain: OnChain, result: Result, names: Sequence[Name], findings: Findings) -> None:
        own = self._chain.address
        if own in on_chain.trainers:
            reported = result.trainers_answered[on_chain.trainers.index(own)]
            part, whole = ANSWERED_SHARE
            count = sum(kind == UPDATE and round_ < result.iterations for kind, round_ in names)
            answered, what = count * whole >= result.iterations * part, f"{count} of {result.iterations} rounds"
        else:
            reported = result.validators_answered[on_chain.validators.index(own)]
            answered = score_name("settlement", result.iterations) in names
            what = "the settlement"
        if answered and not reported:
            findings.compare(f"whether this owner answered ({what})", "no", "yes")

    def _dispute(self, training: Training, claim: Signed, on_chain: OnChain) -> Training:
        market = self._chain.marketplace()
        if market.unconfirmed(self._chain.address):  # perhaps this dispute, sent before a crash
            return training
        short = f"; not disputed: this owner's account has less than the bond of {on_chain.bond} wei"
        reason = (training.reason or "").removesuffix(short)
        enough = market.balance(self._chain.address) >= on_chain.bond
        training = self._storage.move(training.id, Status(training.status), reason=reason + ("" if enough else short))
        if enough:
            try:
                market.dispute_result(training.id, disputes.evidence_hash(claim), on_chain.bond)
            except Conflict as error:  # somebody else was faster, or the review has ended: the next look shows
                log.warning("not disputed", training=str(training.id), error=str(error))
        return training

    def _note_dispute(self, training: Training) -> Training:
        dispute = self._chain.marketplace().dispute(training.id)
        if dispute is None:
            raise ChainUnavailable(f"the node has lost the dispute of training {training.id}")
        own = training.claim is not None and dispute.disputer == self._chain.address
        document = {
            "disputer": dispute.disputer,
            "reason": training.reason if own else None,
            "evidence_hash": dispute.evidence_hash.hex(),
            "outcome": None if dispute.outcome is None else dispute.outcome.name,
        }
        return self._storage.move(training.id, Status(training.status), dispute=document)

    def _copies(self, training_id: uuid.UUID, names: Sequence[Name]) -> Iterator[Copy]:
        for kind, round_ in names:
            entry = self._journal.find(training_id, kind, round_)
            assert entry is not None
            yield Copy(kind=kind, round=round_, question=entry.question, answer=entry.answer)


@dataclass(frozen=True)
class _Checker:
    """What the evidence of a training's metrics is verified with."""

    order: Order
    weights: Sequence[int]
    validators: Sequence[str]
    rows: Sequence[int]
    key: PublicKey
    domain: Domain

    @classmethod
    def of(cls, order: Order, on_chain: OnChain, domain: Domain) -> _Checker:
        hyper = order.hyper_parameters
        rows = [owner.rows for owner in on_chain.owners]
        trainers = on_chain.trainer_count
        return cls(
            order,
            relative_weights(rows[:trainers], hyper.weighting),
            on_chain.validators,
            rows[trainers:],
            PublicKey.from_modulus(int(order.modulus, 16), hyper.key_bits),
            domain,
        )

    def read(self, metric: Metric) -> Claimed:
        """Return what a metric's evidence claims; raises unless that is what the metric says."""
        claimed = read_metric(
            metric, self.order.hyper_parameters, self.weights, self.validators, self.rows, self.key, self.domain
        )
        statement, mse = claimed.statement, claimed.mses[0]
        iteration = 0 if statement.kind == "zero" else statement.round
        if (metric.iteration, int(metric.mse)) != (iteration, mse):
            raise VerificationFailed(
                f"an MSE of {metric.mse} after {metric.iteration} iterations was claimed,"
                f" and the openings show {mse} after {iteration}"
            )
        return claimed

    def verified(self, told: Sequence[Told], findings: Findings) -> Iterator[Told]:
        """Yield those metrics whose openings hold: all at the price of one, and one by one if that one fails."""
        try:
            verify_claims((claim for _, _, claim in told), self.key)
        except VerificationFailed:
            for kind, metric, claim in told:
                try:
                    verify_claims([claim], self.key)
                except VerificationFailed as error:
                    findings.disprove(kind, metric, error)
                else:
                    yield kind, metric, claim
        else:
            yield from told
