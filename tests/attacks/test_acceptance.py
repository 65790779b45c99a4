"""Taking part more often, or later, than the order wants; and what others then ask the aggregator for."""

from __future__ import annotations

import base64
import sqlite3
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
import requests

from commons.chain.marketplace import Reverted, Role
from commons.http.request_signing import RequestSigner
from commons.protocol.messages import LocalModelQuestion, Message, Notice, RoundQuestion, Vector
from commons.protocol.transcript import LocalModels, Masking, Round
from commons.users.sessions import Sessions
from tests.attacks.people import gateway, newcomer
from tests.integration.conftest import Town
from tests.integration.refusals import refused
from tests.signing import voice

WANTED = 4


@pytest.fixture(scope="module")
def training(town: Town) -> str:
    """An order that wants one owner less than there are."""
    training = town.order(participants={"wanted": WANTED, "minimum": 3})
    for member in town.members.values():
        member.owner.wait_for_status(training, "READY")
    return training


def test_an_owner_accepts_once_however_often_it_is_told_to(town: Town, http: requests.Session, training: str) -> None:
    owner, account = town.members["owner-1"].owner, town.platform.accounts["owner-1"]
    url = f"{owner.url}/trainings/{training}/accept"
    with ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(lambda _: http.put(url), range(5)))
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409, 409]
    for answer in answers:
        if answer.status_code != 200:
            assert "it cannot be accepted (again)" in refused(answer, 409)
    market = gateway(town.platform, account)
    with pytest.raises(Reverted, match="AlreadyAccepted"):
        market.accept_training(uuid.UUID(training), 50)
    assert [each.address for each in market.training(uuid.UUID(training)).owners] == [account.address]


@pytest.fixture(scope="module")
def started(town: Town, training: str) -> str:
    """The same, when everybody that it wants has accepted and it has begun."""
    for name in list(town.members)[:WANTED]:
        owner = town.members[name].owner
        if owner.training(training)["status"] == "READY":
            owner.accept(training)
    while town.buyer.model(training)["model"]["status"] == "INITIATED":
        time.sleep(0.05)
    return training


def test_nobody_accepts_after_the_start(town: Town, http: requests.Session, started: str) -> None:
    late = town.members["owner-5"].owner
    before = gateway(town.platform, town.platform.accounts["owner-5"]).training(uuid.UUID(started)).owners
    refused(http.put(f"{late.url}/trainings/{started}/accept"), 409)
    # Nor without the service, with the account of an owner that is registered, or of one that registers now.
    for market in (
        gateway(town.platform, town.platform.accounts["owner-5"]),
        newcomer(town.platform, Role.DATA_OWNER),
    ):
        with pytest.raises(Reverted, match="WrongStatus"):
            market.accept_training(uuid.UUID(started), 50)
        assert [owner.address for owner in market.training(uuid.UUID(started)).owners] == [o.address for o in before]
    assert len(before) == WANTED


@pytest.fixture(scope="module")
def finished(town: Town, started: str) -> str:
    """The same, when it is over."""
    town.buyer.wait_finished(started)
    return started


def kept(town: Town, training: str) -> list[bytes]:
    """What the aggregator keeps to itself: owners' ciphertexts, and what unmasks the rounds that the buyer divided."""
    file = town.platform.directory / "aggregator" / "service.db"
    query = "SELECT kind, question FROM journal WHERE training_id = ?"
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
        rows = database.execute(query, (uuid.UUID(training).hex,)).fetchall()
    rounds = [Round.unpack(content) for kind, content in rows if kind == "round"]
    locals_ = [LocalModels.unpack(content) for kind, content in rows if kind == "local"]
    masks = [Masking.unpack(content).masks for kind, content in rows if kind.startswith("mask")]
    answers = [Vector.unpack(reply.content).ciphertexts for each in (*rounds, *locals_) for reply in each.answers]
    assert len(rounds) > 5 and len(locals_) == 1 and masks
    return [*answers, *masks]


def test_the_aggregator_tells_the_buyer_no_ciphertext_no_mask_and_no_transcript(
    town: Town, finished: str, aggregator_routes: list[tuple[str, str]]
) -> None:
    """By no route, with a signed request and without, whatever the question."""
    buyer, url = voice(town.platform, "buyer"), town.platform.urls["aggregator"]
    training = uuid.UUID(finished)
    questions: list[Message] = [
        Notice(training=training),
        LocalModelQuestion(training=training),
        RoundQuestion(training=training, round=1, included=(0, 1), model=b""),
    ]
    told = b""
    with requests.Session() as http:
        http.trust_env = False
        for method, path in aggregator_routes:
            for question in questions:
                answer = buyer.say(http, method, url + path.format(finished), question)
                # Pages ask to log in first.
                shut_out = 400 <= answer.status_code < 500 or answer.url.startswith(f"{url}/login")
                assert shut_out, (method, path, answer.text)
                told += answer.content
        transcript = f"{url}/model/{finished}/transcript"
        told += http.get(transcript).content
        refused(http.get(transcript), 401)
        account = town.platform.accounts["buyer"]
        assert "in a dispute only" in refused(http.get(transcript, auth=RequestSigner(account)), 403)
        for path in ("rounds", "rounds/1", "round/1", "updates", "ciphertexts", "masks", "journal"):
            refused(http.get(f"{url}/model/{finished}/{path}", auth=RequestSigner(account)), 404)
    # What its own operator is shown has none of it either.
    for path in (f"/model/{finished}", f"/contributions/{finished}", "/model"):
        told += str(town.aggregator.call("GET", path)).encode()
    session = {Sessions(url).cookie: town.aggregator.authorization["Authorization"].removeprefix("Bearer ")}
    for path in ("/", f"/training/{finished}"):
        page = requests.get(url + path, cookies=session, headers={"Accept": "text/html"}, timeout=60)
        assert page.status_code == 200 and finished[:8] in page.text and "<h1>" in page.text
        told += page.content
    for secret in kept(town, finished):
        for start in range(0, len(secret) - 24, 512):
            piece = secret[start + 8 : start + 24]
            assert not any(form in told for form in (piece, piece.hex().encode(), base64.b64encode(piece)[:-4]))


def test_owners_tell_the_buyer_nothing_of_what_they_answered(town: Town, finished: str) -> None:
    training = uuid.UUID(finished)
    buyer, account = voice(town.platform, "buyer"), town.platform.accounts["buyer"]
    with requests.Session() as http:
        http.trust_env = False
        for name in list(town.members)[:WANTED]:
            base = f"{town.platform.urls[name]}/trainings/{finished}"
            update = RoundQuestion(training=training, round=1, included=(0, 1), model=b"")
            refused(buyer.say(http, "PUT", base, update), 403)
            refused(buyer.say(http, "POST", base, LocalModelQuestion(training=training)), 403)
            evidence = http.get(f"{base}/evidence", auth=RequestSigner(account))
            assert "in a dispute only" in refused(evidence, 403)
