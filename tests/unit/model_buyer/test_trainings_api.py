"""The routes of trainings: who may send what, and who may see what."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, cast

import pytest
import requests
from eth_account.signers.local import LocalAccount
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from commons.chain.marketplace import Dispute
from commons.chain.marketplace import Status as ChainStatus
from commons.http import application
from commons.http.bodies import MESSAGEPACK
from commons.http.nonces import Nonces
from commons.http.request_signing import RequestSigner, RequestVerifier
from commons.http.signatures import SIGNATURE_HEADER, Signatures, decode_signature, encode_signature
from commons.protocol import disputes
from commons.protocol.messages import (
    Acknowledgement,
    Message,
    MomentsTotals,
    Notice,
    Openings,
    Products,
    TrainingMessage,
    Vector,
)
from commons.protocol.signed import Signed
from commons.users.accounts import Accounts
from model_buyer.api import models, trainings
from model_buyer.ordering import Ordering
from model_buyer.predictions import Predictions
from model_buyer.storage import Status
from tests.unit.model_buyer.scene import (
    AGGREGATOR,
    ARBITER,
    BUYER,
    DOMAIN,
    OWNERS,
    STRANGER,
    Scene,
    reported,
    signer,
)

URL = "http://buyer.example"


@dataclass
class Desk:
    """The buyer's routes."""

    client: FlaskClient
    nudged: list[uuid.UUID] = field(default_factory=list)

    def send(
        self,
        method: str,
        path: str,
        message: Message,
        account: LocalAccount | None = AGGREGATOR,
        by: LocalAccount | None = None,
    ) -> TestResponse:
        """Send a message of an account, in a request signed by another, or the same: unsigned if there is none."""
        signed = signer(account or AGGREGATOR).sign(message)
        headers = {"Content-Type": MESSAGEPACK}
        if account is not None:
            headers[SIGNATURE_HEADER] = encode_signature(signed.signature)
        return self.request(method, path, signed.content, headers, by or account)

    def request(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str], by: LocalAccount | None
    ) -> TestResponse:
        auth = None if by is None else RequestSigner(by)
        prepared = requests.Request(method, URL + path, data=body, headers=headers, auth=auth).prepare()
        return self.client.open(path, method=method, data=body, headers=dict(prepared.headers))

    def evidence(self, path: str, by: LocalAccount = ARBITER) -> TestResponse:
        return self.request("GET", path, None, {}, by)


@pytest.fixture
def desk(scene: Scene) -> Desk:
    app = application.create(__name__)
    made = Desk(app.test_client())
    signatures = Signatures(scene.chain)
    parts = (scene.answering, scene.settlement, scene.reviewing)

    verifier = RequestVerifier(URL, Nonces(scene.database))
    app.register_blueprint(trainings.blueprint(scene.storage, signatures, *parts, made.nudged.append, verifier))
    accounts = Accounts(scene.database, "http://127.0.0.1:9090", lambda: 31337, timedelta(hours=1))
    app.register_blueprint(
        models.blueprint(models.Orders(scene.storage, cast(Predictions, None), accounts.access, cast(Ordering, None)))
    )
    (ada,) = accounts.users.all()
    secret, _ = accounts.tokens.issue(ada, timedelta(hours=1))
    made.client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {secret}"
    return made


CALLS: dict[str, tuple[str, str, Callable[[Scene], TrainingMessage], type[Message]]] = {
    "refresh": ("PATCH", "", lambda scene: scene.masked_round(), Vector),
    "multiply": ("POST", "/mse", lambda scene: scene.masked_models("iteration"), Products),
    "open": ("PATCH", "/mse", lambda scene: scene.totals("zero"), Openings),
    "notice": ("POST", "/notice", lambda scene: Notice(training=scene.id), Acknowledgement),
    "deliver": ("PUT", "", lambda scene: reported_delivery(scene), Acknowledgement),
}


ASKED = CALLS | {"open moments": ("PATCH", "/moments", lambda scene: moments_of(scene), Openings)}
"""Those, and what needs another order to be answered."""


def moments_of(scene: Scene) -> TrainingMessage:
    return MomentsTotals(
        training=scene.id, question=bytes(32), trainers=(0, 1, 2), ciphertexts=b"", cosignatures=(b"",) * 3
    )


def reported_delivery(scene: Scene) -> TrainingMessage:
    outcome = scene.run()
    scene.market.report(reported(outcome))
    return scene.delivery(outcome.model)


@pytest.mark.parametrize("call", CALLS)
def test_aggregator_is_answered_with_a_signature_for_its_question(scene: Scene, desk: Desk, call: str) -> None:
    method, path, make, kind = CALLS[call]
    message = make(scene)
    answer = desk.send(method, f"/models/{scene.id}{path}", message)
    assert (answer.status_code, answer.mimetype) == (200, MESSAGEPACK)
    signed = Signed(content=answer.data, signature=decode_signature(answer.headers[SIGNATURE_HEADER]))
    signed.verified(kind, DOMAIN, BUYER.address, scene.sign(message))
    assert desk.nudged == ([scene.id] if call in ("notice", "deliver") else [])


@pytest.mark.parametrize("call", ASKED)
@pytest.mark.parametrize(("account", "status"), [(None, 401), (STRANGER, 403), (OWNERS[0], 403), (BUYER, 403)])
def test_nobody_else_is_answered(scene: Scene, desk: Desk, call: str, account: Any, status: int) -> None:
    method, path, make, _ = ASKED[call]
    message = make(scene)
    before = scene.journal.names(scene.id)
    assert desk.send(method, f"/models/{scene.id}{path}", message, account).status_code == status
    assert (scene.journal.names(scene.id), scene.model.weights, desk.nudged) == (before, None, [])


@pytest.mark.parametrize("call", ASKED)
@pytest.mark.parametrize(("account", "by"), [(AGGREGATOR, STRANGER), (AGGREGATOR, OWNERS[0]), (STRANGER, AGGREGATOR)])
def test_message_and_request_are_both_the_aggregators(
    scene: Scene, desk: Desk, call: str, account: LocalAccount, by: LocalAccount
) -> None:
    method, path, make, _ = ASKED[call]
    message = make(scene)
    before = scene.journal.names(scene.id)
    assert desk.send(method, f"/models/{scene.id}{path}", message, account, by).status_code == 403
    assert (scene.journal.names(scene.id), scene.model.weights, desk.nudged) == (before, None, [])


@pytest.mark.parametrize("call", ASKED)
def test_message_about_another_training_than_the_path_is_refused(scene: Scene, desk: Desk, call: str) -> None:
    method, path, make, _ = ASKED[call]
    message = make(scene).model_copy(update={"training": uuid.uuid4()})
    answer = desk.send(method, f"/models/{scene.id}{path}", message)
    assert answer.status_code == 422 and "the path names" in cast(dict[str, Any], answer.json)["detail"]


@pytest.mark.parametrize("call", ASKED)
def test_unknown_training_is_not_found_by_whoever_signs(scene: Scene, desk: Desk, call: str) -> None:
    method, path, _, _ = ASKED[call]
    unknown = uuid.uuid4()
    for account, status in ((None, 401), (STRANGER, 404), (AGGREGATOR, 404)):
        assert desk.send(method, f"/models/{unknown}{path}", Notice(training=unknown), account).status_code == status


def test_arbiter_delivers_in_a_dispute(scene: Scene, desk: Desk) -> None:
    delivery = reported_delivery(scene)
    assert desk.send("PUT", f"/models/{scene.id}", delivery, ARBITER).status_code == 403
    scene.market.status, scene.market.disputed = ChainStatus.DISPUTED, Dispute(OWNERS[0].address, bytes(32), None)
    assert desk.send("PUT", f"/models/{scene.id}", delivery, ARBITER).status_code == 200
    assert scene.model.weights is not None


def disputed(scene: Scene) -> None:
    scene.market.report(reported(scene.run(), iterations=3))
    scene.reviewing.review(scene.model)


def test_evidence_is_streamed_to_the_arbiter_in_a_dispute_and_to_nobody_else(scene: Scene, desk: Desk) -> None:
    path = f"/models/{scene.id}/evidence"
    assert desk.client.get(path).status_code == 401
    assert desk.evidence(path).status_code == 403
    disputed(scene)
    answer = desk.evidence(path)
    assert (answer.status_code, answer.mimetype) == (200, "application/octet-stream")
    assert answer.data.startswith(disputes.MAGIC)
    for other in (STRANGER, AGGREGATOR, BUYER, OWNERS[0]):
        assert desk.evidence(path, other).status_code == 403
    assert desk.evidence(f"/models/{uuid.uuid4()}/evidence").status_code == 404


def shown(desk: Desk, scene: Scene) -> dict[str, Any]:
    return cast(dict[str, Any], desk.client.get(f"/models/{scene.id}").json)


def test_user_sees_a_dispute_once_it_is_on_chain(scene: Scene, desk: Desk) -> None:
    assert shown(desk, scene)["dispute"] is None
    about_to = {"disputer": None, "reason": "x", "evidence_hash": "00", "outcome": None}
    scene.storage.move(scene.id, dispute=about_to)
    assert shown(desk, scene)["dispute"] is None
    scene.storage.move(scene.id, dispute=about_to | {"disputer": BUYER.address})
    assert shown(desk, scene)["dispute"] == about_to | {"disputer": BUYER.address}


def test_user_is_told_that_a_settled_model_was_not_delivered_until_it_is(scene: Scene, desk: Desk) -> None:
    scene.storage.move(scene.id, Status.FINISHED)
    assert "was not delivered" in shown(desk, scene)["model"]["reason"]
    scene.storage.move(scene.id, weights=[1.0, 2.0, 3.0])
    assert shown(desk, scene)["model"]["reason"] is None
