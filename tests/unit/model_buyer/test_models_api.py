"""Orders as their users list and poll them: a part of a list at a time, and nothing that they have already."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from flask.testing import FlaskClient
from sqlalchemy import event, select

from commons.database import Database
from commons.errors import Conflict, NotFound
from commons.http import application, bodies
from commons.protocol.messages import DataRequirements, Features, HyperParameters, Order, Participants, Target
from commons.users.accounts import Accounts
from model_buyer.api import models
from model_buyer.app import MIGRATIONS
from model_buyer.ordering import Ordering
from model_buyer.predictions import Prediction, Predictions
from model_buyer.storage import Model, Status, Storage

ORDER = Order(
    model_type="LINEAR_REGRESSION",
    data_requirements=DataRequirements(features=Features(list=("x",), range=(-1, 1)), target=Target(range=(-1, 1))),
    hyper_parameters=HyperParameters(),
    participants=Participants(),
    modulus="1" * 512,
)


class Service:
    """The buyer's routes of models, and two users of them."""

    def __init__(self, folder: Path) -> None:
        self.database = Database(f"sqlite:///{folder / 'service.db'}")
        self.database.migrate(MIGRATIONS)
        self.storage = Storage(self.database)
        self._accounts = Accounts(self.database, "http://127.0.0.1:9090", lambda: 31337, timedelta(hours=1))
        self._app = application.create(__name__)
        self.predictions = Predictions(self.database, folder, 100)
        self.ordering = Ordering(self.storage, *(cast(Any, None),) * 3, "", "", "")
        orders = models.Orders(self.storage, self.predictions, self._accounts.access, self.ordering)
        self._app.register_blueprint(models.blueprint(orders))
        self.ada, self.ada_id = self._user("ada")
        self.bob, self.bob_id = self._user("bob")

    def _user(self, name: str) -> tuple[FlaskClient, uuid.UUID]:
        user = self._accounts.users.add(name, f"{name}@example.org")
        secret, _ = self._accounts.tokens.issue(user, timedelta(hours=1))
        client = self._app.test_client()
        client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {secret}"
        client.get("/models")  # which writes down when the token was used
        return client, user.id

    def add(self, user_id: uuid.UUID | None = None, status: Status = Status.IN_PROGRESS) -> uuid.UUID:
        model = Model(
            id=uuid.uuid4(),
            user_id=user_id or self.ada_id,
            name="a model",
            status=status,
            order=ORDER.canonical(),
            sealed_key=b"sealed",
            payment=5,
            terms={},
        )
        self.storage.add(model)
        return model.id


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    made = Service(tmp_path)
    yield made
    made.database.close()


def ids(listed: Any) -> list[uuid.UUID]:
    return [uuid.UUID(model["id"]) for model in listed["models"]]


def test_list_is_read_in_parts_without_what_others_see_and_what_was_removed(service: Service) -> None:
    own = [service.add() for _ in range(5)][::-1]
    service.add(service.bob_id)
    service.storage.remove(service.add())
    everything = service.ada.get("/models").get_json()
    assert ids(everything) == own
    assert {name: everything[name] for name in ("total", "limit", "offset")} == {"total": 5, "limit": 20, "offset": 0}
    for offset, expected in ((0, own[:2]), (2, own[2:4]), (4, own[4:]), (6, [])):
        part = service.ada.get("/models", query_string={"limit": 2, "offset": offset}).get_json()
        assert (ids(part), part["total"], part["limit"], part["offset"]) == (expected, 5, 2, offset)


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "offset=-1", "limit=many", "limit=1&limit=2", "page=1"])
def test_part_of_a_list_has_bounds(service: Service, query: str) -> None:
    answer = service.ada.get(f"/models?{query}")
    assert answer.status_code == 422
    assert answer.content_type == "application/problem+json"


def test_who_has_the_model_as_it_is_is_sent_nothing(service: Service) -> None:
    path = f"/models/{service.add()}"
    first = service.ada.get(path)
    for known in (first.headers["ETag"], f'"other", {first.headers["ETag"]}', f"W/{first.headers['ETag']}", "*"):
        again = service.ada.get(path, headers={"If-None-Match": known})
        assert (again.status_code, again.data) == (304, b"")
        assert again.headers["ETag"] == first.headers["ETag"]
    assert service.ada.get(path, headers={"If-None-Match": '"other"'}).data == first.data
    head = service.ada.head(path)
    assert (head.status_code, head.data, head.headers["ETag"]) == (200, b"", first.headers["ETag"])
    assert first.headers["Cache-Control"] == "private, no-cache"


def test_whatever_changes_is_sent(service: Service) -> None:
    model_id = service.add()
    path = f"/models/{model_id}"
    seen = {service.ada.get(path).headers["ETag"]}
    changes = (
        lambda: service.storage.add_metric(model_id, 0, 7),
        lambda: service.storage.add_metric(model_id, 0, 8),
        lambda: service.storage.move(model_id, reason="slow"),
        lambda: service.storage.move(model_id, Status.FINISHED, weights=[1.0, 2.0]),
    )
    before = service.ada.get(path).get_json()
    for change in changes:
        change()
        answer = service.ada.get(path, headers={"If-None-Match": ", ".join(seen)})
        assert answer.status_code == 200
        assert answer.headers["ETag"] not in seen
        assert answer.get_json() != before
        before = answer.get_json()
        seen.add(answer.headers["ETag"])
    assert before["model"]["weights"] == [1.0, 2.0]
    assert [point["iteration"] for point in before["metrics"]["mse_history"]] == [0]


def test_etag_tells_others_nothing(service: Service) -> None:
    path = f"/models/{service.add()}"
    tag = service.ada.get(path).headers["ETag"]
    for header in ({}, {"If-None-Match": tag}, {"If-None-Match": "*"}):
        assert service.bob.get(path, headers=header).status_code == 404


def test_model_that_finishes_while_it_is_cancelled_is_kept(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    model_id = service.add()
    tag = service.ada.get(f"/models/{model_id}").headers["ETag"]
    compare = bodies.require_match

    def finish(seen: str) -> None:
        compare(seen)
        service.storage.move(model_id, Status.FINISHED, weights=[1.0, 2.0])

    monkeypatch.setattr(bodies, "require_match", finish)
    assert service.ada.delete(f"/models/{model_id}", headers={"If-Match": tag}).status_code == 409
    assert service.ada.get(f"/models/{model_id}").get_json()["model"]["weights"] == [1.0, 2.0]


def test_prediction_does_not_outlive_its_model(service: Service, tmp_path: Path) -> None:
    model_id = service.add()
    service.storage.move(model_id, Status.FINISHED, weights=[1.0, 2.0])
    finished = service.storage.model(model_id)
    service.predictions.predict_rows(finished, [[3.0]])
    service.storage.remove(model_id)  # and the service is killed before the predictions are deleted
    Predictions(service.database, tmp_path, 100)
    with pytest.raises(NotFound):
        service.predictions.predict_rows(finished, [[3.0]])  # which was asked for before
    with service.database.read() as session:
        assert session.scalars(select(Prediction.id)).all() == []


def test_service_stays_where_a_model_is_to_be_delivered(service: Service) -> None:
    model_id = service.add(status=Status.FINISHED)
    with pytest.raises(Conflict, match="not delivered yet"), service.ordering.moving(cast(Any, None)):
        pass
    assert service.ada.delete(f"/models/{model_id}").status_code == 204
    with service.ordering.moving(cast(Any, None)):
        pass


def test_polling_costs_two_queries(service: Service) -> None:
    model_id = service.add()
    for iteration in range(20):
        service.storage.add_metric(model_id, iteration, 7)
    service.ada.get(f"/models/{model_id}")
    asked: list[str] = []
    event.listen(
        service.database.engine, "before_cursor_execute", lambda _c, _u, statement, *_: asked.append(statement)
    )
    assert len(service.ada.get(f"/models/{model_id}").get_json()["metrics"]["mse_history"]) == 20
    assert len([each for each in asked if each != "BEGIN"]) == 2, (
        asked
    )  # whose the token is, and which version there is
