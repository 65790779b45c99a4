"""An owner's training stands where the chain says, whatever was lost on the way there."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount

from commons.chain.connection import Connection
from commons.chain.deadlines import GRACE_S
from commons.chain.marketplace import ChainUnavailable, Dispute, Outcome, Payment, PaymentKind, Result, Reverted, Terms
from commons.chain.marketplace import Status as ChainStatus
from commons.database import Database
from commons.errors import Conflict, PeerUnavailable
from commons.http.peer import Peers
from commons.journal import Journal
from commons.learning.statistics import TableStatistics
from commons.protocol.messages import (
    DataRequirements,
    Features,
    HyperParameters,
    Message,
    Order,
    Participants,
    Target,
)
from commons.protocol.signed import Signed
from data_owner.app import MIGRATIONS
from data_owner.participation import Participation, statistics_for
from data_owner.reviewing import Reviewing
from data_owner.storage import Dataset, Status, Storage, Training
from tests.unit.data_owner.chain import Chain, Market

ACCOUNT: LocalAccount = Account.create()
OWN, OTHER, BUYER, AGGREGATOR = ACCOUNT.address, "0x" + "0b" * 20, "0x" + "0d" * 20, "0x" + "0e" * 20
TRAINING = uuid.UUID(int=7)
ORDER = Order(
    model_type="LINEAR_REGRESSION",
    data_requirements=DataRequirements(
        features=Features(list=("age", "bmi"), range=(-1, 1)), target=Target(name="y", range=(0, 4))
    ),
    hyper_parameters=HyperParameters(),
    participants=Participants(),
    modulus="c0ffee" * 86,
)
TERMS = Terms(
    wanted_owners=3,
    minimum_owners=3,
    join_deadline=1000,
    training_deadline=2000,
    review_period=60,
    fixed_share=0,
    arbiter="0xArbiter",
    order_hash=ORDER.digest(),
)


class Away:
    """Peers that are never there."""

    def sign(self, message: Message) -> Signed:
        return Signed(content=message.pack(), signature=b"")

    def ask(self, *_: Any, **__: Any) -> Any:
        raise PeerUnavailable("the aggregator does not answer")


@pytest.fixture
def market() -> Market:
    return Market(TERMS, BUYER, AGGREGATOR)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    on = Database(f"sqlite:///{tmp_path / 'service.db'}")
    on.migrate(MIGRATIONS)
    yield on
    on.close()


@pytest.fixture
def storage(database: Database) -> Storage:
    return Storage(database)


@pytest.fixture
def participation(database: Database, storage: Storage, market: Market) -> Participation:
    chain = cast(Connection, Chain(market, ACCOUNT))
    return Participation(storage, chain, cast(Peers, Away()), Reviewing(storage, Journal(database), chain))


def offer(storage: Storage, status: Status = Status.OFFERED) -> None:
    columns = {"order": ORDER.canonical(), "buyer": BUYER, "aggregator": AGGREGATOR, "aggregator_url": "http://a"}
    storage.offer(Training(id=TRAINING, status=status, **columns))


def dataset(storage: Storage, *columns: str, scale: float = 1.0, name: str = "rows.csv") -> Dataset:
    values = scale * np.array([[0.5, -0.5, 2.0], [0.25, 0.5, 3.0]])[:, : len(columns)]
    table = TableStatistics.accumulate([values], columns)
    made = Dataset(id=uuid.uuid4(), name=name, rows=table.rows, statistics=table.to_bytes())
    storage.add_dataset(made)
    return made


RESULT = Result(
    iterations=10,
    initial_mse=100,
    final_mse=50,
    partial_mses=(60, 70),
    contributions=(10, 20),
    trainers_answered=(True, True),
    validators_answered=(True,),
    transcript_root=bytes(32),
    model_hash=bytes(32),
)
OVER = (ChainStatus.CANCELLED, ChainStatus.FAILED, ChainStatus.EXPIRED)
RUNNING = (ChainStatus.TRAINING, ChainStatus.REPORTED, ChainStatus.DISPUTED)
OPEN = (Status.OFFERED, Status.ACCEPTING, Status.INITIATED, Status.IN_PROGRESS)


@pytest.mark.parametrize("on_chain", OVER)
@pytest.mark.parametrize("status", OPEN)
def test_training_that_is_over_on_chain_has_failed(
    storage: Storage, market: Market, participation: Participation, status: Status, on_chain: ChainStatus
) -> None:
    offer(storage, status)
    market.status = on_chain
    assert participation.follow(TRAINING).status == Status.FAILED
    assert storage.training(TRAINING).reason


def test_reason_of_a_failure_is_what_the_chain_says(
    storage: Storage, market: Market, participation: Participation
) -> None:
    offer(storage)
    market.status, market.reason = ChainStatus.FAILED, "TooFewAnswered: 1 trainers answered round 3"
    assert participation.follow(TRAINING).reason == "the training failed: TooFewAnswered: 1 trainers answered round 3"


@pytest.mark.parametrize("on_chain", [ChainStatus.CLOSED, *RUNNING, ChainStatus.FINISHED])
@pytest.mark.parametrize("status", [Status.OFFERED, Status.ACCEPTING])
def test_owner_that_is_not_in_the_training_when_it_starts_is_late(
    storage: Storage, market: Market, participation: Participation, status: Status, on_chain: ChainStatus
) -> None:
    offer(storage, status)
    market.status, market.owners, market.trainer_count = on_chain, [OTHER] * 3, 2
    assert participation.follow(TRAINING).status == Status.FAILED
    assert storage.training(TRAINING).reason == "joining was over before this owner had accepted"


def test_acceptance_that_was_never_sent_is_given_up(
    storage: Storage, market: Market, participation: Participation
) -> None:
    offer(storage, Status.ACCEPTING)
    assert participation.follow(TRAINING).status == Status.OFFERED


def test_acceptance_that_may_be_under_way_is_waited_for(
    storage: Storage, market: Market, participation: Participation
) -> None:
    offer(storage, Status.ACCEPTING)
    market.pending = 1
    assert participation.follow(TRAINING).status == Status.ACCEPTING
    market.pending, market.owners = 0, [OWN]
    assert participation.follow(TRAINING).status == Status.INITIATED


def test_acceptance_that_was_mined_after_it_was_given_up_counts(
    storage: Storage, market: Market, participation: Participation
) -> None:
    offer(storage, Status.OFFERED)
    market.owners = [OTHER, OWN]
    assert participation.follow(TRAINING).status == Status.INITIATED


@pytest.mark.parametrize("on_chain", RUNNING)
@pytest.mark.parametrize(("place", "role"), [(0, "TRAINER"), (1, "TRAINER"), (2, "VALIDATOR")])
def test_owner_has_the_role_that_the_chain_drew(
    storage: Storage, market: Market, participation: Participation, on_chain: ChainStatus, place: int, role: str
) -> None:
    offer(storage, Status.INITIATED)
    market.status, market.trainer_count = on_chain, 2
    market.owners = [OTHER] * 3
    market.owners[place] = OWN
    training = participation.follow(TRAINING)
    assert (training.status, training.role) == (Status.IN_PROGRESS, role)


def test_owner_earns_what_the_chain_paid_and_withdraws_it_once(
    storage: Storage, market: Market, participation: Participation
) -> None:
    offer(storage, Status.IN_PROGRESS)
    market.status, market.owners, market.trainer_count = ChainStatus.FINISHED, [OTHER, OWN, OTHER], 2
    market.credited = 10**19 + 3
    market.metrics = ((0, 10**20), (5, 7))
    market.paid = (
        Payment(OWN, PaymentKind.CONTRIBUTION, 10**19),
        Payment(OTHER, PaymentKind.CONTRIBUTION, 5),
        Payment(OWN, PaymentKind.VALIDATION, 3),
    )
    for _ in range(2):
        training = participation.follow(TRAINING)
    assert (training.status, training.role, training.earned) == (Status.FINISHED, "TRAINER", 10**19 + 3)
    assert market.withdrawals == 1
    assert [(metric.iteration, metric.mse) for metric in storage.metrics(TRAINING)] == [(0, 10**20), (5, 7)]


@pytest.mark.parametrize("on_chain", [ChainStatus.REPORTED, ChainStatus.DISPUTED])
def test_silence_is_settled_by_the_owner_once_others_had_the_time_to(
    storage: Storage, market: Market, participation: Participation, on_chain: ChainStatus
) -> None:
    offer(storage, Status.IN_PROGRESS)
    market.status, market.owners, market.trainer_count = on_chain, [OTHER, OWN, OTHER], 2
    market.credited, market.paid = 7, (Payment(OWN, PaymentKind.CONTRIBUTION, 7),)
    market.time = market.deadline + GRACE_S
    assert participation.follow(TRAINING).status == Status.IN_PROGRESS
    market.time += 1
    training = participation.follow(TRAINING)
    assert (training.status, training.earned, market.withdrawals) == (Status.FINISHED, 7, 1)


def test_refund_by_the_arbiter_is_a_failure_and_a_bond_that_returns_is_not_earned(
    storage: Storage, market: Market, participation: Participation
) -> None:
    offer(storage, Status.IN_PROGRESS)
    market.status, market.owners, market.trainer_count = ChainStatus.FINISHED, [OTHER, OWN, OTHER], 2
    market.disputed, market.result = Dispute(OWN, bytes(32), Outcome.REFUND), RESULT
    storage.move(TRAINING, Status.IN_PROGRESS, reviewed=True)
    market.credited, market.paid = 10, (Payment(OWN, PaymentKind.BOND, 10),)
    training = participation.follow(TRAINING)
    assert (training.status, training.earned, market.withdrawals) == (Status.FAILED, 0, 1)
    assert training.reason is not None and training.reason.startswith("the arbiter of a dispute refunded the payment")
    assert training.dispute is not None and training.dispute["outcome"] == "REFUND"


def test_acceptance_is_on_chain_when_it_is_answered(
    storage: Storage, market: Market, participation: Participation
) -> None:
    offer(storage)
    rows = dataset(storage, "age", "bmi", "y")
    accepted = participation.accept(TRAINING)  # although the aggregator is away
    assert (accepted.status, accepted.dataset_id) == (Status.INITIATED, rows.id)
    assert market.owners == [OWN]
    with pytest.raises(Conflict, match="is INITIATED: it cannot be accepted"):
        participation.accept(TRAINING)
    assert market.owners == [OWN]


@pytest.mark.parametrize("refusal", [Reverted("WrongStatus", {}), ChainUnavailable("no receipt")])
def test_acceptance_that_the_chain_refuses_leaves_the_offer(
    storage: Storage, market: Market, participation: Participation, refusal: Exception
) -> None:
    offer(storage)
    dataset(storage, "age", "bmi", "y")
    market.refusal = refusal
    with pytest.raises(type(refusal)):
        participation.accept(TRAINING)
    assert storage.training(TRAINING).status == Status.OFFERED
    market.refusal = None
    assert participation.accept(TRAINING).status == Status.INITIATED


def test_training_that_others_have_closed_cannot_be_accepted(
    storage: Storage, market: Market, participation: Participation
) -> None:
    offer(storage)
    dataset(storage, "age", "bmi", "y")
    market.status = ChainStatus.CLOSED
    with pytest.raises(Conflict, match="is CLOSED on chain: joining is over"):
        participation.accept(TRAINING)
    assert storage.training(TRAINING).status == Status.OFFERED


def test_newest_dataset_that_fits_is_taken(storage: Storage, participation: Participation) -> None:
    dataset(storage, "age", "bmi", "y")
    newer = dataset(storage, "Age", "BMI", "Y")
    dataset(storage, "age", "bmi")
    found = participation.fitting_dataset(ORDER)
    assert found is not None and found.id == newer.id


def test_everything_that_is_missing_is_said(storage: Storage, participation: Participation) -> None:
    assert participation.what_is_missing(ORDER) == "upload a dataset with the order's columns"
    dataset(storage, "age", "weight", name="a.csv")
    dataset(storage, "age", "bmi", "y", scale=4, name="b.csv")
    assert participation.what_is_missing(ORDER) == (
        "b.csv: column 'age' goes from 1 to 2, outside [-1, 1]; column 'bmi' goes from -2 to 2, outside [-1, 1];"
        " column 'y' goes from 8 to 12, outside [0, 4]"
        " / a.csv: column 'bmi' is missing; column 'y' is missing"
    )


def test_statistics_are_of_the_columns_whatever_their_case(storage: Storage) -> None:
    same = statistics_for(dataset(storage, "age", "bmi", "y"), ORDER)
    other = statistics_for(dataset(storage, "AGE", "Bmi", "Y"), ORDER)
    assert same.gram.tolist() == other.gram.tolist() == [[2, 0.75, 0], [0.75, 0.3125, -0.125], [0, -0.125, 0.5]]
    assert same.moment.tolist() == other.moment.tolist() == [5 / 4, 1.75 / 4, 0.5 / 4]
    assert same.target_square == other.target_square == 13 / 16
