"""Who may say what to an owner: the buyer offers, the aggregator asks, the arbiter sees evidence in a dispute."""

from __future__ import annotations

import io
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
import requests
from eth_account.signers.local import LocalAccount
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from commons.chain.connection import Connection
from commons.chain.marketplace import Status as ChainStatus
from commons.crypto.proofs import prove_key
from commons.http import application
from commons.http.bodies import MESSAGEPACK
from commons.http.nonces import Nonces
from commons.http.peer import Peers
from commons.http.request_signing import RequestSigner, RequestVerifier
from commons.http.signatures import SIGNATURE_HEADER, Signatures, decode_signature, encode_signature
from commons.protocol import disputes
from commons.protocol.messages import (
    Acknowledgement,
    CosignQuestion,
    LocalModelQuestion,
    Message,
    Metric,
    Moments,
    MomentsCosignQuestion,
    MomentsQuestion,
    Notice,
    TrainingRequest,
    Vector,
)
from commons.protocol.signed import Signed, Signer, proof_context
from data_owner.api import models, trainings
from data_owner.participation import Participation
from tests.unit.data_owner.parties import AGGREGATOR, ARBITER, BUYER, OWNERS, STRANGER, TRAINING, Owner, Parties, result

UNKNOWN = uuid.UUID(int=8)
METRIC = Metric(
    training=TRAINING, iteration=0, mse="1", statement=b"", cosignatures=(), ciphertexts=b"", totals=(), randomisers=()
)
COSIGN = CosignQuestion(training=TRAINING, kind="zero", round=0, answers=(), totals=b"", randomisers=b"")

COSIGN_MOMENTS = MomentsCosignQuestion(training=TRAINING, answers=(), totals=b"", randomisers=b"")
MOMENTS = Moments(
    training=TRAINING, statement=b"", cosignatures=(), ciphertexts=b"", totals=(), randomisers=(), signature=b""
)


URL = "http://owner.example"


class Service:
    """A trainer's routes."""

    def __init__(self, parties: Parties, owner: Owner) -> None:
        self.parties, self.owner = parties, owner
        self.nudged: list[uuid.UUID] = []
        chain = cast(Connection, owner.chain)
        participation = Participation(owner.storage, chain, Peers(chain), owner.reviewing)
        self.app: Flask = application.create(__name__)
        self.app.register_blueprint(
            trainings.blueprint(
                owner.storage,
                participation,
                owner.answering,
                owner.reviewing,
                Signatures(chain),
                self.nudged.append,
                RequestVerifier(URL, Nonces(owner.database)),
            )
        )
        self.app.register_blueprint(models.blueprint(models.Requests(owner.storage, participation)))
        self.client: FlaskClient = self.app.test_client()

    def send(
        self,
        method: str,
        path: str,
        content: Message,
        sender: Signer | None,
        claimed: Message | None = None,
        by: LocalAccount = AGGREGATOR,
    ) -> TestResponse:
        """Send a message, signed as if it was `claimed`, in a request signed by another account, or the same."""
        headers = {"Content-Type": MESSAGEPACK}
        if sender is not None:
            headers[SIGNATURE_HEADER] = encode_signature(sender.sign(claimed or content).signature)
        return self.request(method, path, content.pack(), headers, by)

    def request(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str], by: LocalAccount
    ) -> TestResponse:
        """Send a signed request."""
        auth = RequestSigner(by)
        prepared = requests.Request(method, URL + path, data=body, headers=headers, auth=auth).prepare()
        return self.client.open(path, method=method, data=body, headers=dict(prepared.headers))


@pytest.fixture
def service(parties: Parties, tmp_path: Path) -> Iterator[Service]:
    owner = parties.owner(0, tmp_path)
    yield Service(parties, owner)
    owner.database.close()


def questions(parties: Parties) -> list[tuple[str, str, Message]]:
    path = f"/trainings/{TRAINING}"
    return [
        ("PATCH", path, Notice(training=TRAINING)),
        ("PUT", path, parties.round(0)),
        ("POST", path, LocalModelQuestion(training=TRAINING)),
        ("POST", f"{path}/metrics", parties.zero()),
        ("POST", f"{path}/cosign", COSIGN),
        ("PUT", f"{path}/metrics", METRIC),
        ("POST", f"{path}/moments", MomentsQuestion(training=TRAINING)),
        ("PATCH", f"{path}/moments", COSIGN_MOMENTS),
        ("PUT", f"{path}/moments", MOMENTS),
    ]


def test_nobody_but_the_aggregator_asks(service: Service) -> None:
    parties = service.parties
    for method, path, content in questions(parties):
        for sender in (STRANGER, OWNERS[0], OWNERS[1], BUYER, ARBITER):  # with what the aggregator has said, too
            refusal = service.send(method, path, content, parties.aggregator, by=sender)
            assert refusal.status_code == 403
            assert f"is for {parties.aggregator.address} to ask" in refusal.json["detail"]
        unsigned = service.client.open(path, method=method, data=content.pack(), content_type=MESSAGEPACK)
        assert (unsigned.status_code, unsigned.headers["WWW-Authenticate"]) == (401, 'Signature realm="DeltaML"')
    assert (service.owner.journal.names(TRAINING), service.nudged) == ([], [])


def test_only_the_aggregator_looks_where_a_training_stands(service: Service) -> None:
    path, role = f"/trainings/{TRAINING}", service.owner.storage.training(TRAINING).role
    shown = service.request("GET", path, None, {}, AGGREGATOR)
    assert (shown.status_code, shown.get_json()) == (200, {"id": str(TRAINING), "status": "IN_PROGRESS", "role": role})
    assert service.request("GET", f"/trainings/{UNKNOWN}", None, {}, AGGREGATOR).status_code == 404
    assert service.request("GET", path, None, {}, STRANGER).status_code == 403
    assert service.client.get(path).status_code == 401


def test_messages_are_the_aggregators(service: Service) -> None:
    parties = service.parties
    stranger, owner = (Signer(account, parties.domain) for account in (STRANGER, OWNERS[1]))
    for method, path, content in questions(parties):
        assert service.send(method, path, content, None).status_code == 401
        for sender in (stranger, owner, parties.buyer):
            refusal = service.send(method, path, content, sender)
            assert refusal.status_code == 403
            assert f"is for {parties.aggregator.address} to send" in refusal.json["detail"]
        other = service.send(method, path, content, parties.aggregator, Notice(training=TRAINING, reason="another"))
        assert other.status_code == 403  # the signature is somebody's, of these bytes nobody's that we know
    assert (service.owner.journal.names(TRAINING), service.nudged) == ([], [])


def test_questions_are_about_the_training_of_the_path_and_one_that_is_known(service: Service) -> None:
    parties = service.parties
    for method, path, content in questions(parties):
        unknown = path.replace(str(TRAINING), str(UNKNOWN))
        assert service.send(method, unknown, content, parties.aggregator).status_code == 404
        moved = content.model_copy(update={"training": UNKNOWN})
        assert service.send(method, path, moved, parties.aggregator).status_code == 422
    assert service.owner.journal.names(TRAINING) == []


def test_answers_are_signed(service: Service) -> None:
    parties, own = service.parties, OWNERS[0].address
    for (method, path, content), answer in zip(questions(parties)[:3], (Acknowledgement, Vector, Vector), strict=True):
        response = service.send(method, path, content, parties.aggregator)
        assert response.status_code == 200, response.data
        signed = Signed(content=response.data, signature=decode_signature(response.headers[SIGNATURE_HEADER]))
        signed.verified(answer, parties.domain, own, parties.aggregator.sign(content))
    assert service.nudged == [TRAINING]
    assert service.owner.journal.names(TRAINING) == [("update", 0), ("local", 0)]


def offered(service: Service) -> bool:
    return service.client.get(f"/models/{UNKNOWN}").status_code == 200


def test_offer_is_the_buyers_to_sign_and_its_key_is_proven(service: Service) -> None:
    parties = service.parties
    stranger = Signer(STRANGER, parties.domain)
    other = service.parties.request()  # proven for another training
    moved = other.model_copy(update={"training": UNKNOWN})
    for content, sender, status, words in (
        (moved, None, 401, "sign the message"),
        (moved, parties.aggregator, 403, f"a request of {BUYER.address} is for that account to sign"),
        (moved, stranger, 403, f"a request of {BUYER.address} is for that account to sign"),
        (moved.model_copy(update={"buyer": STRANGER.address}), stranger, 409, "the chain says"),
        (moved.model_copy(update={"key_proof": b""}), parties.buyer, 409, "bytes"),
        (moved, parties.buyer, 409, "root"),
    ):
        refusal = service.send("POST", "/trainings", content, sender)
        assert refusal.status_code == status
        assert words in refusal.json["detail"]
        assert not offered(service)
    proven = proven_for(parties, UNKNOWN)
    for by in (BUYER, STRANGER, OWNERS[0]):
        refusal = service.send("POST", "/trainings", proven, parties.buyer, by=by)
        assert refusal.status_code == 403
        assert f"is for {parties.aggregator.address} to offer" in refusal.json["detail"]
    assert not offered(service)
    response = service.send("POST", "/trainings", proven, parties.buyer)
    assert response.status_code == 200
    signed = Signed(content=response.data, signature=decode_signature(response.headers[SIGNATURE_HEADER]))
    signed.verified(Acknowledgement, parties.domain, OWNERS[0].address, parties.buyer.sign(proven))
    assert offered(service)


def proven_for(parties: Parties, training: uuid.UUID) -> TrainingRequest:
    context = proof_context(parties.domain, training, "key", 0, BUYER.address)
    return parties.request(training=training, key_proof=prove_key(parties.private_key, context).to_bytes())


def test_evidence_is_streamed_to_the_arbiter(service: Service) -> None:
    path, market, owner = f"/trainings/{TRAINING}/evidence", service.parties.market, service.owner
    for round_ in range(10):
        owner.journal.keep(TRAINING, "update", round_, b"asked", b"answered")
    market.status, market.result = ChainStatus.REPORTED, result(1, 1, trainers_answered=(False, True))
    assert service.client.get(path).status_code == 401
    assert service.request("GET", path, None, {}, ARBITER).status_code == 403
    owner.reviewing.review(owner.storage.training(TRAINING), market.training(TRAINING))
    unknown = path.replace(str(TRAINING), str(UNKNOWN))
    assert service.client.get(unknown).status_code == 401
    assert service.request("GET", unknown, None, {}, ARBITER).status_code == 404
    response = service.request("GET", path, None, {}, ARBITER)
    ((evidence_hash, _),) = market.disputes
    evidence = disputes.read(io.BytesIO(response.data))
    disputes.verify(evidence, TRAINING, OWNERS[0].address, evidence_hash, service.parties.domain)
    assert len(evidence.copies) == 10
    assert service.request("GET", path, None, {}, BUYER).status_code == 403


def test_users_see_what_is_verified_and_what_is_disputed(service: Service) -> None:
    market, owner, path = service.parties.market, service.owner, f"/models/{TRAINING}"
    owner.storage.add_metric(TRAINING, 0, 10**18)
    owner.storage.add_metric(TRAINING, 5, 10**17, verified=True)
    for round_ in range(10):
        owner.journal.keep(TRAINING, "update", round_, b"asked", b"answered")
    before = service.client.get(path).json
    assert [point["verified"] for point in before["mse_history"]] == [False, True]
    assert before["dispute"] is None
    market.status, market.result = ChainStatus.REPORTED, result(1, 1, trainers_answered=(False, True))
    for _ in range(2):
        owner.reviewing.review(owner.storage.training(TRAINING), market.training(TRAINING))
    after = service.client.get(path).json
    assert after["dispute"]["disputer"] == OWNERS[0].address
    assert after["reason"] == after["dispute"]["reason"]
    assert "(10 of 10 rounds): reported no, computed yes" in after["reason"]
