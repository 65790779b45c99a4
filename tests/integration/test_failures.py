"""The failure rules: who is left out, when a training ends without a model, and where the money goes then."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import requests
from eth_account import Account
from eth_account.signers.local import LocalAccount
from flask.testing import FlaskClient

from commons.chain.marketplace import Marketplace, Role, Status
from commons.errors import PeerUnavailable
from commons.protocol.messages import OwnerRegistration
from commons.protocol.signed import Signer
from data_owner.app import create_app as create_owner
from data_owner.config import Config as OwnerConfig
from federated_aggregator.app import create_app as create_aggregator
from federated_aggregator.config import Config as AggregatorConfig
from model_buyer.app import create_app as create_buyer
from model_buyer.config import Config as BuyerConfig
from scripts.local import diabetes, flow
from scripts.local.platform import LocalPlatform, Ports
from tests.integration.conftest import QUICK, Town
from tests.integration.outages import Case, begin, chain_of, found, freeze, frozen, mend, restart, thaw, until
from tests.integration.refusals import session, sign_up
from tests.signing import Voice, domain

LONG = {"iterations": 30, "learning_rate": 1.5, "evaluation_interval": 5}
DAY_S = 24 * 60 * 60
REVIEW_S = 60 * 60
ETHER = 10**18


@pytest.fixture(scope="module")
def settled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """A town of four owners, in which nobody is waited for longer than four seconds, and time can be moved."""
    patience = {"aggregator": {"DELTAML_ROUND_TIMEOUT_S": "4"}}
    with LocalPlatform(tmp_path_factory.mktemp("hamlet"), Ports.free(owners=4), patience) as platform:
        yield found(platform)


@pytest.fixture
def hamlet(settled: Town) -> Iterator[Town]:
    yield settled
    mend(settled.platform)


@pytest.fixture
def town(town: Town) -> Iterator[Town]:
    yield town
    mend(town.platform)


def test_trainer_that_hangs_is_left_out_and_may_return(hamlet: Town) -> None:
    case = begin(hamlet, LONG, owners=4)
    books = case.books("aggregator")
    everybody, others = [0, 1, 2], [1, 2]
    thaw(hamlet.platform, "buyer")
    until("three rounds", lambda: len(books.rounds("round")) >= 3)
    with frozen(hamlet.platform, case.roles["trainer-1"]):
        until("a round without it", lambda: case.answered(books.rounds("round")[-1]) == others)
    until("a round with it again", lambda: case.answered(books.rounds("round")[-1]) == everybody)
    until("the report", lambda: case.on_chain.result is not None)
    rounds = [case.answered(round_) for round_ in range(30)]
    assert rounds.count(everybody) + rounds.count(others) == 30
    if rounds.count(everybody) < 24:  # four fifths
        expect_time_to_dispute(case)
    model = case.expect_finished()
    case.expect_agreement(model)
    case.expect_audited()


def test_trainer_that_is_gone_is_left_out_and_unpaid(hamlet: Town) -> None:
    case = begin(hamlet, LONG, owners=4)
    books, gone = case.books("aggregator"), case.roles["trainer-1"]
    thaw(hamlet.platform, "buyer")
    until("three rounds", lambda: len(books.rounds("round")) >= 3)
    hamlet.platform.kill(gone)
    expect_time_to_dispute(case)
    hamlet.buyer.wait_finished(case.id)
    assert case.answered(29) == [1, 2]
    hamlet.platform.restart(gone)
    case.expect_agreement(case.expect_finished())
    case.expect_audited()
    seen = hamlet.members[gone].owner.training(case.id)
    assert (seen["role"], seen["earned"]) == ("TRAINER", "0")
    assert [metric["iteration"] for metric in seen["mse_history"]] == [0, 5, 10, 15, 20, 25, 30]


def test_validator_that_was_lost_stays_out_and_is_unpaid(hamlet: Town) -> None:
    case = begin(hamlet, LONG, owners=4, validator_share=0.5)
    books, lost = case.books("aggregator"), case.roles["validator-1"]
    thaw(hamlet.platform, "buyer")
    until("three rounds", lambda: len(books.rounds("round")) >= 3)
    with frozen(hamlet.platform, lost):
        until("an evaluation without it", lambda: [1] in scored_iterations(case))
    expect_time_to_dispute(case)
    case.expect_agreement(case.expect_finished())  # the zero model's error, too: it is scored anew by who remains
    case.expect_audited()
    scored = scored_iterations(case)
    assert scored == sorted(scored) and scored[-1] == [1]
    assert hamlet.members[lost].owner.training(case.id)["earned"] == "0"


@pytest.mark.parametrize(
    ("role", "reason"), [("trainer-1", "1 trainers answered round"), ("validator-1", "no validator answered")]
)
def test_training_that_too_few_are_left_for_is_aborted(hamlet: Town, role: str, reason: str) -> None:
    case = begin(hamlet, LONG, owners=3)
    books, gone = case.books("aggregator"), case.roles[role]
    thaw(hamlet.platform, "buyer")
    until("three rounds", lambda: len(books.rounds("round")) >= 3)
    hamlet.platform.kill(gone)
    until("the end", lambda: case.on_chain.status == Status.FAILED)
    hamlet.platform.restart(gone)
    case.expect_refunded(Status.FAILED, reason)
    until("the aggregator knows", lambda: hamlet.aggregator.training(case.id)["status"] == "FAILED")
    assert reason in hamlet.aggregator.training(case.id)["reason"]


def test_order_without_enough_owners_is_cancelled(hamlet: Town) -> None:
    training_id = hamlet.order()
    hamlet.accept(training_id, "owner-1", "owner-2")
    pass_time(hamlet, DAY_S + 1)
    case = Case(hamlet, training_id, {}, {})
    with pytest.raises(flow.TrainingFailed, match="is CANCELLED: joining ended without enough data owners"):
        hamlet.buyer.wait_finished(training_id)
    case.expect_refunded(Status.CANCELLED, "cancelled|without enough")


def test_joining_closed_long_ago_is_closed_again(hamlet: Town) -> None:
    training_id = hamlet.order(participants={"wanted": 3})
    hamlet.accept(training_id, "owner-1", "owner-2")
    hamlet.members["owner-3"].owner.wait_for_status(training_id, "READY")
    hamlet.platform.kill("aggregator")
    hamlet.accept(training_id, "owner-3")
    chain_of(hamlet, "aggregator").close_joining(UUID(training_id))  # as it would have, just before it was killed
    rpc(hamlet, "anvil_mine", hex(257))  # the contract knows the hashes of the last 256 blocks
    hamlet.platform.restart("aggregator")
    case = Case(hamlet, training_id, QUICK, {"aggregator": "aggregator", "buyer": "buyer"})
    case.expect_agreement(case.expect_finished())


def test_buyer_gets_its_money_back_though_the_aggregator_is_gone(hamlet: Town) -> None:
    joining = Case(hamlet, hamlet.order(participants={"wanted": 4}), {}, {})
    hamlet.accept(joining.id, "owner-1", "owner-2", "owner-3")
    training = replace(begin(hamlet, LONG, owners=3), held=joining.held)
    hamlet.platform.kill("aggregator")
    thaw(hamlet.platform, "buyer")
    pass_time(hamlet, 2 * DAY_S + 5)
    assert training.on_chain.status == Status.TRAINING  # the aggregator would have a minute to end it
    pass_time(hamlet, 60)
    refunds = Status.CANCELLED, Status.EXPIRED
    until("they are ended", lambda: {joining.on_chain.status, training.on_chain.status} == {*refunds})
    hamlet.platform.restart("aggregator")
    joining.expect_refunded(Status.CANCELLED, "cancelled|without enough")
    training.expect_refunded(Status.EXPIRED, "deadline passed")
    until("the aggregator knows", lambda: all(hamlet.aggregator.training(c.id)["reason"] for c in (joining, training)))


@pytest.mark.parametrize("gone", [("buyer",), ("buyer", "aggregator")], ids=" and ".join)
def test_owners_are_paid_though_others_are_gone(hamlet: Town, gone: tuple[str, ...]) -> None:
    case = begin(hamlet, LONG, owners=3)
    books = case.books("aggregator")
    thaw(hamlet.platform, "buyer")
    until("three rounds", lambda: len(books.rounds("round")) >= 3)
    with frozen(hamlet.platform, "chain"):  # nothing is reported without the chain
        until("all but the report", lambda: books.value("trainings", "outcome"))
        freeze(hamlet.platform, "buyer")
    until("the report", lambda: case.on_chain.status == Status.REPORTED)
    for name in gone:
        hamlet.platform.kill(name)
    pass_time(hamlet, REVIEW_S + 1 + 60)
    for role in ("trainer-1", "trainer-2", "validator-1"):
        owner = hamlet.members[case.roles[role]].owner
        assert int(owner.wait_for_status(case.id, "FINISHED")["earned"]) > 0
    restart(hamlet.platform, *gone)
    until("the model", lambda: case.books("buyer").value("models", "weights"))  # late, for the review is over
    case.expect_agreement(case.expect_finished())
    case.expect_audited()


def test_transactions_under_way_are_not_sent_twice(hamlet: Town) -> None:
    chain, platform = chain_of(hamlet), hamlet.platform
    before = chain.balance(platform.accounts["buyer"].address)
    with mining_stopped(hamlet):
        order = flow.order_for(hamlet.buyer_id, diabetes.FEATURES, hyper_parameters=LONG, participants={"wanted": 3})
        in_background(lambda: hamlet.buyer.order(order))
        until("the payment is sent", lambda: pending(hamlet) == 1)
        platform.kill("aggregator")
        platform.kill("buyer")
        platform.restart("buyer")
        training_id = str(UUID(until("the order is there", lambda: buyers_orders(hamlet, "PAYING"))[0]))
        log = platform.supervisor.log("buyer")
        until("it is looked at", lambda: f"{training_id}" in log.read_text())
        assert pending(hamlet) == 1
    until("it is paid for", lambda: training_id.replace("-", "") in buyers_orders(hamlet, "INITIATED"))
    assert before - chain.balance(platform.accounts["buyer"].address) == pytest.approx(5 * ETHER, abs=ETHER // 10)
    platform.restart("aggregator")
    hamlet.accept(training_id, "owner-1", "owner-2")

    owner = hamlet.members["owner-3"].owner
    owner.wait_for_status(training_id, "READY")
    with mining_stopped(hamlet):
        in_background(lambda: owner.accept(training_id))
        until("the acceptance is sent", lambda: pending(hamlet) == 1)
        platform.kill("owner-3")
        platform.restart("owner-3")
        owner.wait_for_status(training_id, "READY")
    case = Case(hamlet, training_id, LONG, {"aggregator": "aggregator", "buyer": "buyer"})
    case.expect_agreement(case.expect_finished())


def test_order_is_refused_while_the_aggregator_is_unreachable(hamlet: Town) -> None:
    chain, buyer = chain_of(hamlet), hamlet.platform.accounts["buyer"].address
    before, known = chain.balance(buyer), hamlet.buyer.call("GET", "/models")
    hamlet.platform.kill("aggregator")
    order = flow.order_for(hamlet.buyer_id, diabetes.FEATURES)
    with session(hamlet) as http:
        answer = http.post(f"{hamlet.platform.urls['buyer']}/models", json=order, timeout=60)
    hamlet.platform.restart("aggregator")
    expect_problem(answer, HTTPStatus.SERVICE_UNAVAILABLE, "does not answer")
    assert (chain.balance(buyer), hamlet.buyer.call("GET", "/models")) == (before, known)


def test_account_without_funds_is_refused_and_keeps_no_order(hamlet: Town, tmp_path: Path) -> None:
    poor = Account.create()
    client = in_process(hamlet, tmp_path, "buyer", poor)
    user = sign_up(client)
    order = flow.order_for(user, diabetes.FEATURES)
    for balance in (0, 5 * ETHER):  # nothing; nothing for the gas
        rpc(hamlet, "anvil_setBalance", poor.address, hex(balance))
        answer = client.post("/models", json=order)
        assert (answer.status_code, answer.mimetype) == (HTTPStatus.PAYMENT_REQUIRED, PROBLEM)
        assert f"{poor.address} has too little ether" in answer.get_json()["detail"]
        assert {model["status"] for model in client.get("/models").get_json()["models"]} <= {"FAILED"}
    assert int(client.get("/contract").get_json()["balance_wei"]) > 4 * ETHER

    poor = Account.create()
    client = in_process(hamlet, tmp_path, "owner", poor)
    user = sign_up(client)
    client.post(f"/users/{user}/address", json={"address": poor.address})
    answer = client.post(f"/users/{user}/register")
    assert (answer.status_code, answer.mimetype) == (HTTPStatus.PAYMENT_REQUIRED, PROBLEM)


@pytest.mark.parametrize("service", ["aggregator", "buyer", "owner"])
def test_address_without_a_contract_is_named(hamlet: Town, tmp_path: Path, service: str) -> None:
    nowhere = Account.create().address
    account = hamlet.platform.accounts["arbiter"]
    client = in_process(hamlet, tmp_path, service, account, contract_address=nowhere, contract_address_file=None)
    user = sign_up(client)
    answer = client.get("/contract")
    assert (answer.status_code, answer.mimetype) == (HTTPStatus.SERVICE_UNAVAILABLE, PROBLEM)
    assert f"no marketplace contract of this version at {nowhere}" in answer.get_json()["detail"]
    if service == "buyer":
        answer = client.post("/models", json=flow.order_for(user, diabetes.FEATURES))
        assert (answer.status_code, answer.mimetype) == (HTTPStatus.CONFLICT, PROBLEM)
        assert nowhere in answer.get_json()["detail"]
        assert client.get("/models").get_json()["models"] == []


def test_services_wait_for_a_chain_that_is_down_and_go_on_when_it_is_back(town: Town) -> None:
    case = begin(town, LONG)
    platform, books = town.platform, case.books("aggregator")
    away = ["aggregator", "buyer", case.roles["trainer-1"]]
    thaw(platform, "buyer")
    until("three rounds", lambda: len(books.rounds("round")) >= 3)
    for name in away:
        platform.kill(name)
    platform.stop("chain")
    restart(platform, *away)  # healthy without a chain
    urls = platform.urls
    with session(town) as http:
        for url in [f"{urls[name]}/contract" for name in away] + [f"{urls['aggregator']}/contributions/{case.id}"]:
            expect_problem(http.get(url, timeout=60), HTTPStatus.SERVICE_UNAVAILABLE, "the chain does not answer")
        for url in (f"{urls['aggregator']}/model/{case.id}", f"{urls['buyer']}/models/{case.id}"):
            assert http.get(url, timeout=60).status_code == HTTPStatus.OK, "what is polled needs no chain"
        order = flow.order_for(town.buyer_id, diabetes.FEATURES)
        answer = http.post(f"{urls['buyer']}/models", json=order, timeout=60)
        expect_problem(answer, HTTPStatus.SERVICE_UNAVAILABLE, "the chain does not answer")
    platform.restart("chain")
    case.expect_agreement(case.expect_finished())
    case.expect_nobody_left_out()
    case.expect_audited()


def test_owners_that_talk_nonsense_or_hang_hold_nobody_up(hamlet: Town) -> None:
    with listening(nonsense=True) as talker, listening(nonsense=False) as mute:
        for url in ("http://[", talker, mute):
            somebody = Voice(Signer(data_owner_on_chain(hamlet), domain(hamlet.platform)))
            registration = OwnerRegistration(address=somebody.signer.address, url=url)
            with session(hamlet) as http:
                answer = somebody.say(http, "POST", f"{hamlet.platform.urls['aggregator']}/dataowner", registration)
            assert answer.status_code == HTTPStatus.OK
        case = begin(hamlet, LONG, owners=4)
        thaw(hamlet.platform, "buyer")
        case.expect_agreement(case.expect_finished())


def data_owner_on_chain(town: Town) -> LocalAccount:
    """Return an account that is registered as a data owner, with no service behind it."""
    account: LocalAccount = Account.create()
    rpc(town, "anvil_setBalance", account.address, hex(10**18))
    Marketplace(town.platform.urls["chain"], chain_of(town).address, account).register(Role.DATA_OWNER)
    return account


def expect_time_to_dispute(case: Case) -> None:
    """Expect a result that leaves an owner out to be settled by nobody before the review has passed; let it pass."""
    until("the model", lambda: case.books("buyer").value("models", "weights"))
    result = case.on_chain.result
    assert result is not None and not all((*result.trainers_answered, *result.validators_answered))
    time.sleep(2)  # the buyer, which confirms other results as soon as it has the model, looks at it once a second
    assert case.on_chain.status == Status.REPORTED
    pass_time(case.town, REVIEW_S + 1)


def scored_iterations(case: Case) -> list[list[int]]:
    return [case.scored("iteration", round_) for round_ in case.books("aggregator").rounds("total-iteration")]


PROBLEM = "application/problem+json"


def expect_problem(answer: requests.Response, status: HTTPStatus, detail: str) -> None:
    assert (answer.status_code, answer.headers["Content-Type"]) == (status, PROBLEM)
    assert detail in answer.json()["detail"]


def in_process(town: Town, directory: Path, service: str, account: LocalAccount, **other: Any) -> FlaskClient:
    """A service of its own beside the town's, in this process and without a driver."""
    create, config = {
        "aggregator": (create_aggregator, AggregatorConfig),
        "buyer": (create_buyer, BuyerConfig),
        "owner": (create_owner, OwnerConfig),
    }[service]
    settings: dict[str, Any] = {
        "data_dir": directory / service,
        "public_url": "http://127.0.0.1:9",
        "chain_url": town.platform.urls["chain"],
        "contract_address_file": town.platform.directory / "contract-address",
        "account_private_key": "0x" + bytes(account.key).hex(),
    }
    if service != "aggregator":
        settings["aggregator_url"] = town.platform.urls["aggregator"]
    if service == "buyer":
        settings["arbiter_address"] = town.platform.accounts["arbiter"].address
    return create(config(**settings | other)).test_client()


def rpc(town: Town, method: str, *params: Any) -> Any:
    call = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    answer = requests.post(town.platform.urls["chain"], json=call, timeout=60).json()
    assert "error" not in answer, answer
    return answer["result"]


def pass_time(town: Town, seconds: int) -> None:
    rpc(town, "evm_increaseTime", seconds)
    rpc(town, "evm_mine")


@contextmanager
def mining_stopped(town: Town) -> Iterator[None]:
    """What is sent stays unmined until the end."""
    rpc(town, "evm_setAutomine", False)
    try:
        yield
    finally:
        rpc(town, "evm_setAutomine", True)
        rpc(town, "evm_mine")


def pending(town: Town) -> int:
    return int(rpc(town, "txpool_status")["pending"], 16)


def buyers_orders(town: Town, status: str) -> list[str]:
    with sqlite3.connect(f"file:{town.platform.directory}/buyer/service.db?mode=ro", uri=True) as database:
        return [row[0] for row in database.execute("SELECT id FROM models WHERE status = ?", (status,))]


def in_background(act: Callable[[], object]) -> None:
    """Do what somebody's death will interrupt."""

    def quietly() -> None:
        with suppress(PeerUnavailable):
            act()

    threading.Thread(target=quietly, daemon=True).start()


@contextmanager
def listening(nonsense: bool) -> Iterator[str]:
    """The URL of a server that answers nonsense, or nothing at all."""

    class Nonsense(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # noqa: N802
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"hello")

        do_PATCH = do_PUT = do_POST  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Nonsense) as server:
        if nonsense:
            threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        if nonsense:
            server.shutdown()
