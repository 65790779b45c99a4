"""A reported result is compared with what the owner was told and what it answered; a difference is disputed, once."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from commons.chain.marketplace import ChainUnavailable, Dispute, Reverted
from commons.chain.marketplace import Status as ChainStatus
from commons.crypto.paillier import PrivateKey, UniformRandomisers
from commons.errors import Conflict, NotAuthorised, NotFound, VerificationFailed
from commons.protocol import disputes
from commons.protocol.messages import Acknowledgement, Metric
from commons.protocol.totals import read_metric, verify_claims
from data_owner.reviewing import Reviewing
from data_owner.storage import Status, Training
from tests.unit.data_owner.chain import BOND
from tests.unit.data_owner.parties import AGGREGATOR, ARBITER, BUYER, ITERATIONS, ROWS, TRAINING, Owner, Parties, result

TRAINER, VALIDATOR = 0, 2


@dataclass(frozen=True)
class Evidence:
    """What owners are told in a training: the zero model, iteration 5, and the settlement, where averaging won."""

    zero: Metric
    fifth: Metric
    last: Metric
    final: int


@pytest.fixture(scope="module")
def evidence(
    private_key: PrivateKey, randomisers: UniformRandomisers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Evidence]:
    parties, folder = Parties(private_key, randomisers), tmp_path_factory.mktemp("validators")
    validators = {place: parties.owner(2 + place, folder) for place in (0, 1)}
    zero = parties.metric(parties.zero(), validators)
    fifth = parties.metric(parties.models("iteration", 5), validators)
    last = parties.metric(parties.models("settlement", ITERATIONS), validators)
    yield Evidence(zero, fifth, last, min(verified(parties, last)))
    for owner in validators.values():
        owner.database.close()


class Reported:
    """A training whose result is reported, with the services of a trainer and a validator."""

    def __init__(self, parties: Parties, evidence: Evidence, folder: Path) -> None:
        self.parties, self.market = parties, parties.market
        self.zero, self.fifth, self.last, self.final = evidence.zero, evidence.fifth, evidence.last, evidence.final
        self.metrics = [self.zero, self.fifth, self.last]
        self.market.metrics = tuple((metric.iteration, int(metric.mse)) for metric in self.metrics)
        self.owners = {number: parties.owner(number, folder) for number in (TRAINER, VALIDATOR)}
        for round_ in range(ITERATIONS):
            self.owners[TRAINER].journal.keep(TRAINING, "update", round_, b"asked", b"answered")
        self.owners[TRAINER].journal.keep(TRAINING, "local", 0, b"asked", b"answered")
        self.owners[VALIDATOR].journal.keep(TRAINING, "score-settlement", 0, b"asked", b"answered")
        self.report()

    def report(self, **changed: object) -> None:
        self.market.status = ChainStatus.REPORTED
        self.market.result = result(**({"initial": int(self.zero.mse), "final": self.final} | changed))  # type: ignore[arg-type]

    def tell(self, owner: int, *metrics: Metric) -> None:
        for metric in metrics or self.metrics:
            self.owners[owner].reviewing.take_note(self.parties.ask(metric))

    def review(self, owner: int, reviewing: Reviewing | None = None) -> Training:
        known = self.owners[owner].storage.training(TRAINING)
        return (reviewing or self.owners[owner].reviewing).review(known, self.market.training(TRAINING))

    def verified(self, owner: int) -> dict[int, bool]:
        return {metric.iteration: metric.verified for metric in self.owners[owner].storage.metrics(TRAINING)}


def verified(parties: Parties, metric: Metric) -> list[int]:
    hyper = parties.order.hyper_parameters
    claimed = read_metric(metric, hyper, (1, 1), parties.addresses, (ROWS, ROWS), parties.key, parties.domain)
    verify_claims([claimed], parties.key)
    return claimed.mses


@pytest.fixture
def reported(parties: Parties, evidence: Evidence, tmp_path: Path) -> Iterator[Reported]:
    made = Reported(parties, evidence, tmp_path)
    yield made
    for owner in made.owners.values():
        owner.database.close()


def test_metric_is_kept_as_it_was_signed_and_acknowledged(reported: Reported) -> None:
    owner, question = reported.owners[TRAINER], reported.parties.ask(reported.fifth)
    answer = owner.reviewing.take_note(question)
    answer.verified(Acknowledgement, reported.parties.domain, owner.chain.address, question.signed)
    entry = owner.journal.find(TRAINING, "metric-iteration", 5)
    assert entry is not None and (entry.question, entry.answer) == (question.signed.pack(), answer.pack())
    assert owner.reviewing.take_note(question) == answer
    assert reported.verified(TRAINER) == {5: False}


def test_metric_is_told_once(reported: Reported) -> None:
    reported.tell(TRAINER, reported.fifth)
    with pytest.raises(Conflict, match="has already been answered another metric-iteration 5"):
        reported.tell(TRAINER, reported.fifth.model_copy(update={"mse": "1"}))
    with pytest.raises(VerificationFailed, match="is no TotalStatement"):
        reported.tell(TRAINER, reported.zero.model_copy(update={"statement": b"nothing"}))
    assert reported.verified(TRAINER) == {5: False}


@pytest.mark.parametrize("owner", [TRAINER, VALIDATOR])
def test_right_result_is_not_disputed(reported: Reported, owner: int) -> None:
    reported.tell(owner)
    training = reported.review(owner)
    assert (training.reviewed, training.reason, training.claim) == (True, None, None)
    assert reported.verified(owner) == {0: True, 5: True, 10: True}
    assert reported.market.disputes == []


def test_verified_metric_is_replaced_by_nothing_unverified(reported: Reported) -> None:
    reported.tell(TRAINER)
    reported.review(TRAINER)
    reported.owners[TRAINER].storage.add_metric(TRAINING, 5, 1)
    assert [metric.mse for metric in reported.owners[TRAINER].storage.metrics(TRAINING)][1] == int(reported.fifth.mse)


@pytest.mark.parametrize("owner", [TRAINER, VALIDATOR])
@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"final": 1}, "the final MSE"),
        ({"initial": 1}, "the initial MSE"),
        ({"iterations": 5}, "the number of iterations"),
    ],
)
def test_another_result_is_disputed_with_the_evidence(
    reported: Reported, owner: int, changed: dict[str, int], what: str
) -> None:
    reported.tell(owner)
    reported.report(**changed)
    training = reported.review(owner)
    service = reported.owners[owner]
    assert training.reason is not None and training.reason.startswith(f"{what}: reported {[*changed.values()][0]},")
    ((evidence_hash, bond),) = reported.market.disputes
    assert bond == BOND
    pieces = service.reviewing.evidence(TRAINING, ARBITER.address)
    shown = disputes.read(io.BytesIO(b"".join(pieces)))
    claim = disputes.verify(shown, TRAINING, service.chain.address, evidence_hash, reported.parties.domain)
    assert claim.claim == what
    assert {copy.kind for copy in shown.copies} >= {"metric-zero", "metric-iteration", "metric-settlement"}


def test_trained_model_is_not_the_delivered_one_if_the_averaged_is_better(reported: Reported) -> None:
    assert reported.final < int(reported.last.mse)
    reported.tell(TRAINER)
    reported.report(final=int(reported.last.mse))
    assert reported.review(TRAINER).claim is not None


def test_saved_mse_that_is_another_is_disputed(reported: Reported) -> None:
    reported.tell(TRAINER)
    reported.market.metrics = tuple((i, mse + (i == 5)) for i, mse in reported.market.metrics)
    training = reported.review(TRAINER)
    assert training.reason is not None and training.reason.startswith("the MSE on chain of iteration 5: reported ")
    assert len(reported.market.disputes) == 1


@pytest.mark.parametrize(
    "forged",
    [
        lambda metric: {"mse": str(int(metric.mse) + 1)},
        lambda metric: {"iteration": 6},
        lambda metric: {"totals": (f"{int(metric.totals[0], 16) + 1:x}",)},
        lambda metric: {"cosignatures": metric.cosignatures[::-1]},
        lambda metric: {"cosignatures": metric.cosignatures[:1]},
    ],
)
def test_metric_whose_evidence_does_not_hold_is_disputed(
    reported: Reported, forged: Callable[[Metric], dict[str, object]]
) -> None:
    metric = reported.fifth.model_copy(update=forged(reported.fifth))
    reported.tell(TRAINER, reported.zero, metric, reported.last)
    training = reported.review(TRAINER)
    assert training.reason is not None and "(metric-iteration): reported" in training.reason
    assert len(reported.market.disputes) == 1
    assert reported.verified(TRAINER) == {0: True, metric.iteration: False, 10: True}


@pytest.mark.parametrize(("answered", "disputed"), [(10, True), (8, True), (7, False)])
def test_trainer_that_answered_enough_is_reported_so(
    parties: Parties, owners: list[Owner], answered: int, disputed: bool
) -> None:
    owner = owners[TRAINER]
    for round_ in range(answered):
        owner.journal.keep(TRAINING, "update", round_, b"asked", b"answered")
    market = parties.market
    market.status, market.result = ChainStatus.REPORTED, result(1, 1, trainers_answered=(False, True))
    training = owner.reviewing.review(owner.storage.training(TRAINING), market.training(TRAINING))
    assert (len(market.disputes) == 1) is disputed
    assert training.reason is not None
    assert (f"({answered} of 10 rounds): reported no, computed yes" in training.reason) is disputed


@pytest.mark.parametrize(
    ("answered", "reason"),
    [
        ((False, True), "whether this owner answered (the settlement): reported no, computed yes"),
        ((True, False), None),  # another's affair
    ],
)
def test_validator_that_scored_the_settlement_is_reported_so(
    reported: Reported, answered: tuple[bool, bool], reason: str | None
) -> None:
    reported.tell(VALIDATOR)
    reported.report(validators_answered=answered)
    assert reported.review(VALIDATOR).reason == reason
    assert len(reported.market.disputes) == (reason is not None)


def test_what_was_never_told_is_not_disputed_but_said(reported: Reported) -> None:
    training = reported.review(TRAINER)
    assert training.reason == (
        "not checked, as it was never told: the MSE of the result, the MSE of iterations 0, 5, 10"
    )
    assert (training.reviewed, training.claim, reported.market.disputes) == (True, None, [])
    reported.tell(VALIDATOR, reported.fifth, reported.last)
    training = reported.review(VALIDATOR)
    assert training.reason == "not checked, as it was never told: the initial MSE, the MSE of iterations 0"


def test_zero_model_counts_over_the_validators_of_the_settlement(parties: Parties, owners: list[Owner]) -> None:
    one, both = {0: owners[2]}, dict(enumerate(owners[2:]))
    zero, again = parties.metric(parties.zero(), both), parties.metric(parties.zero(1), one)
    last = parties.metric(parties.models("settlement", ITERATIONS), one)
    for metric in (zero, again, last):
        owners[TRAINER].reviewing.take_note(parties.ask(metric))
    mses = verified(parties, last)
    market, owner = parties.market, owners[TRAINER]
    market.status, market.metrics = ChainStatus.REPORTED, ((0, int(zero.mse)), (10, int(last.mse)))
    for initial, disputed in ((int(again.mse), False), (int(zero.mse), True)):
        owner.storage.move(TRAINING, Status.IN_PROGRESS, reviewed=False)
        market.result = result(initial, min(mses))
        training = owner.reviewing.review(owner.storage.training(TRAINING), market.training(TRAINING))
        assert (training.claim is not None) is disputed
    assert [metric.mse for metric in owner.storage.metrics(TRAINING)] == [int(zero.mse), int(last.mse)]


def test_dispute_is_raised_once(reported: Reported) -> None:
    reported.tell(TRAINER)
    reported.report(final=1)
    reported.review(TRAINER)
    training = reported.review(TRAINER)
    ((evidence_hash, _),) = reported.market.disputes
    assert training.dispute == {
        "disputer": reported.owners[TRAINER].chain.address,
        "reason": training.reason,
        "evidence_hash": evidence_hash.hex(),
        "outcome": None,
    }
    reported.review(TRAINER)
    assert len(reported.market.disputes) == 1


def test_service_that_was_killed_before_it_disputed_claims_the_same(reported: Reported) -> None:
    reported.tell(TRAINER)
    reported.report(final=1)
    reported.market.refusal = ChainUnavailable("no receipt")
    with pytest.raises(ChainUnavailable):
        reported.review(TRAINER)
    claimed = reported.owners[TRAINER].storage.training(TRAINING).claim
    assert claimed is not None
    reported.market.refusal = None
    reported.owners[TRAINER].journal.keep(TRAINING, "update", 11, b"asked", b"answered")  # after the claim
    reported.review(TRAINER, reported.owners[TRAINER].restarted())
    ((evidence_hash, _),) = reported.market.disputes
    pieces = reported.owners[TRAINER].reviewing.evidence(TRAINING, ARBITER.address)
    shown = disputes.read(io.BytesIO(b"".join(pieces)))
    disputes.verify(shown, TRAINING, reported.owners[TRAINER].chain.address, evidence_hash, reported.parties.domain)
    assert shown.signed.pack() == claimed


def test_dispute_that_may_be_under_way_is_waited_for(reported: Reported) -> None:
    reported.tell(TRAINER)
    reported.report(final=1)
    reported.market.pending = 1
    reported.review(TRAINER)
    assert reported.market.disputes == []
    reported.market.pending = 0
    reported.review(TRAINER)
    assert len(reported.market.disputes) == 1


def test_owner_that_cannot_pay_the_bond_says_so_until_it_can(reported: Reported) -> None:
    reported.tell(TRAINER)
    reported.report(final=1)
    reported.market.funds = BOND - 1
    for _ in range(2):
        training = reported.review(TRAINER)
        assert training.reason is not None
        assert training.reason.count("not disputed: this owner's account has less than the bond of 10 wei") == 1
    assert reported.market.disputes == []
    reported.market.funds = BOND
    training = reported.review(TRAINER)
    assert len(reported.market.disputes) == 1
    assert training.reason is not None and "not disputed" not in training.reason


def test_result_that_somebody_else_disputes_is_not_disputed_again(reported: Reported) -> None:
    reported.tell(TRAINER)
    reported.report(final=1)
    reported.market.status, reported.market.disputed = ChainStatus.DISPUTED, Dispute(BUYER.address, bytes(32), None)
    training = reported.review(TRAINER)
    assert training.reason is not None and training.reason.startswith("the final MSE: reported 1, computed ")
    assert training.dispute == {
        "disputer": BUYER.address,
        "reason": None,
        "evidence_hash": bytes(32).hex(),
        "outcome": None,
    }
    assert reported.market.disputes == []


def test_slower_of_two_disputes_is_no_error(reported: Reported) -> None:
    reported.tell(TRAINER)
    reported.report(final=1)
    reported.market.refusal = Reverted("InvalidTransition", {})
    assert reported.review(TRAINER).claim is not None


def test_review_that_is_over_leaves_the_reason(reported: Reported) -> None:
    reported.tell(TRAINER)
    reported.report(final=1)
    reported.market.status = ChainStatus.FINISHED
    training = reported.review(TRAINER)
    assert training.reason is not None and training.reason.startswith("the final MSE")
    assert reported.market.disputes == []


@pytest.mark.parametrize("caller", [AGGREGATOR.address, BUYER.address])
def test_evidence_is_for_the_arbiter_of_a_dispute(reported: Reported, caller: str) -> None:
    owner = reported.owners[TRAINER]
    reported.tell(TRAINER)
    reported.report(final=1)
    with pytest.raises(NotAuthorised, match="shown in a dispute only"):
        owner.reviewing.evidence(TRAINING, ARBITER.address)
    reported.review(TRAINER)
    with pytest.raises(NotAuthorised, match="and to nobody else"):
        owner.reviewing.evidence(TRAINING, caller)
    with pytest.raises(NotFound, match="this owner claims nothing"):
        reported.owners[VALIDATOR].reviewing.evidence(TRAINING, ARBITER.address)
