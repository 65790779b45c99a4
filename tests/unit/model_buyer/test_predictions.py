"""Finished models predict, for rows and for files, and leave the service as plain numbers."""

from __future__ import annotations

import io
import json
import re
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression
from sklearn.metrics import mean_squared_error, r2_score
from werkzeug.test import TestResponse

from commons.database import Database
from commons.http import application
from commons.protocol.messages import DataRequirements, HyperParameters, Order, Participants
from commons.users.access import Access
from commons.users.sessions import Sessions
from commons.users.storage import Users
from commons.users.tokens import Tokens
from model_buyer import predictions, storage
from model_buyer.api import predictions as api
from model_buyer.predictions import Predictions
from model_buyer.storage import Model, Status, Storage

MIGRATIONS = Path(storage.__file__).parent / "migrations"
MANUAL = Path(storage.__file__).parents[1] / "docs" / "predictions.md"
LIMIT_BYTES = 2**22
WEIGHTS = [3.0, 0.5, -2.0]
"""Of a model that predicts Target = 3 + 0.5·Age − 2·bmi."""


def make_order(features: tuple[str, ...] = ("Age", "bmi")) -> bytes:
    requirements = {
        "features": {"list": features, "range": [-100, 100]},
        "target": {"name": "Target", "range": [-300, 300]},
    }
    return Order(
        model_type="LINEAR_REGRESSION",
        data_requirements=DataRequirements.model_validate(requirements),
        hyper_parameters=HyperParameters(),
        participants=Participants(),
        modulus="f" * 512,
    ).canonical()


class Buyer:
    """A buyer's predictions, on real tables and files."""

    def __init__(self, folder: Path) -> None:
        self.database = Database(f"sqlite:///{folder / 'service.db'}")
        self.database.migrate(MIGRATIONS)
        self.storage = Storage(self.database)
        self.files = folder / "files"
        self.files.mkdir()
        self.tokens = Tokens(self.database)
        self.users = Users(self.database)
        self.user_id = self.users.add("Ada", "ada@example.org").id
        app = application.create(__name__)
        made = Predictions(self.database, self.files, LIMIT_BYTES // 2)
        access = Access(self.tokens, Sessions("http://127.0.0.1:9090"))
        app.register_blueprint(api.blueprint(api.OwnPredictions(self.storage, made, access, LIMIT_BYTES)))
        self.client: FlaskClient = app.test_client()
        self.log_in(self.user_id)

    def log_in(self, user_id: uuid.UUID) -> None:
        secret, _ = self.tokens.issue(self.users.get(user_id), timedelta(hours=1))
        self.client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {secret}"

    def model(self, status: Status = Status.FINISHED, **values: Any) -> str:
        columns = {
            "order": make_order(),
            "sealed_key": b"sealed",
            "payment": 1,
            "terms": {},
            "weights": WEIGHTS if status == Status.FINISHED else None,
            **values,
        }
        model = Model(id=uuid.uuid4(), user_id=self.user_id, name="a\"model'; <b>", status=status, **columns)
        self.storage.add(model)
        return str(model.id)

    def predict(self, model_id: str, **source: Any) -> TestResponse:
        return self.client.post("/predictions", json={"model_id": model_id, **source})

    def upload(self, content: bytes, name: str = "rows.csv") -> TestResponse:
        body = {"file": (io.BytesIO(content), name)}
        answer = self.client.post("/helpers/file", data=body, content_type="multipart/form-data")
        answer.request.environ["wsgi.input"].close()  # a temporary file, if it is large
        return answer


@pytest.fixture(scope="module")
def buyer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Buyer]:
    made = Buyer(tmp_path_factory.mktemp("buyer"))
    yield made
    made.database.close()


@pytest.fixture(scope="module")
def model_id(buyer: Buyer) -> str:
    return buyer.model()


def refusal(answer: TestResponse, status: int = 422) -> tuple[str | None, str]:
    assert (answer.status_code, answer.mimetype) == (status, "application/problem+json"), answer.text
    problem = answer.get_json()
    (error,) = problem.get("errors", [{"field": None, "reason": problem["detail"]}])
    return error["field"], error["reason"]


def as_parquet(frame: pl.DataFrame) -> bytes:
    content = io.BytesIO()
    frame.write_parquet(content)
    return content.getvalue()


WRITERS: dict[str, Callable[[pl.DataFrame], bytes]] = {
    "comma": lambda frame: frame.write_csv().encode(),
    "semicolon": lambda frame: frame.write_csv(separator=";").encode(),
    "tab": lambda frame: frame.write_csv(separator="\t").encode(),
    "Parquet": as_parquet,
}


def test_rows_are_lists_in_the_orders_order_or_objects_of_any_case(buyer: Buyer, model_id: str) -> None:
    lists = buyer.predict(model_id, rows=[[10, 1], [0, -0.5]])
    objects = buyer.predict(model_id, rows=[{"BMI": 1, "age": 10}, {"Age": 0, "bmi": -0.5}])
    assert (lists.status_code, objects.status_code) == (201, 201)
    for answer in (lists.get_json(), objects.get_json()):
        assert answer["predictions"] == [6.0, 4.0]
        assert (answer["model_id"], answer["rows"], answer["file_id"]) == (model_id, 2, None)
        assert (answer["mse"], answer["r2"]) == (None, None)


def test_target_in_the_rows_gives_mse_and_r2(buyer: Buyer, model_id: str) -> None:
    rows = [{"age": 10, "bmi": 1, "target": 7}, {"age": 0, "bmi": 0, "target": 1}, {"age": 0, "bmi": 1, "target": 1}]
    answer = buyer.predict(model_id, rows=rows).get_json()
    assert answer["predictions"] == [6.0, 3.0, 1.0]
    assert answer["mse"] == pytest.approx(mean_squared_error([7, 1, 1], [6, 3, 1]))
    assert answer["r2"] == pytest.approx(r2_score([7, 1, 1], [6, 3, 1]))


def test_r2_of_targets_that_are_all_the_same_is_not_given(buyer: Buyer, model_id: str) -> None:
    answer = buyer.predict(model_id, rows=[{"age": value, "bmi": 0, "target": 0.1} for value in range(7)]).get_json()
    assert answer["mse"] > 0 and answer["r2"] is None


@pytest.mark.parametrize("writer", WRITERS)
@settings(deadline=None, max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32 - 1), st.integers(2, 200))
def test_file_gives_what_its_rows_give(buyer: Buyer, model_id: str, writer: str, seed: int, rows: int) -> None:
    table = np.random.default_rng(seed).normal(size=(rows, 3))
    frame = pl.DataFrame(table, schema=["bmi", "TARGET", "age"])
    file = buyer.upload(WRITERS[writer](frame)).get_json()
    assert (file["rows"], file["columns"]) == (rows, ["bmi", "TARGET", "age"])
    from_file = buyer.predict(model_id, file_id=file["id"]).get_json()
    from_rows = buyer.predict(model_id, rows=frame.to_dicts()).get_json()
    for name in ("predictions", "mse", "r2"):
        assert from_file[name] == pytest.approx(from_rows[name], rel=1e-12)
    assert from_file["predictions"] == pytest.approx((table[:, [2, 0]] @ WEIGHTS[1:] + WEIGHTS[0]).tolist())


def test_file_of_a_single_column_is_taken(buyer: Buyer) -> None:
    model_id = buyer.model(order=make_order(("age",)), weights=[1.0, 2.0])
    file = buyer.upload(b"age\n1\n2\n").get_json()
    assert buyer.predict(model_id, file_id=file["id"]).get_json()["predictions"] == [3.0, 5.0]


def test_file_lies_under_a_name_of_the_services_own_for_it_alone(buyer: Buyer) -> None:
    file = buyer.upload(b"age,bmi\n1,2\n", "<b>my report.csv").get_json()
    assert file["name"] == "<b>my report.csv"
    path = buyer.files / uuid.UUID(file["id"]).hex
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_bytes() == b"age,bmi\n1,2\n"


def test_deleted_file_is_gone_and_what_was_predicted_from_it_stays(buyer: Buyer, model_id: str) -> None:
    file_id = buyer.upload(b"age,bmi\n1,2\n").get_json()["id"]
    made = buyer.predict(model_id, file_id=file_id).get_json()
    assert buyer.client.delete(f"/helpers/file/{file_id}").status_code == 204
    assert not (buyer.files / uuid.UUID(file_id).hex).exists()
    refusal(buyer.predict(model_id, file_id=file_id), 404)
    refusal(buyer.client.delete(f"/helpers/file/{file_id}"), 404)
    assert buyer.client.get(f"/predictions/{made['id']}").get_json() == made


@pytest.mark.parametrize("status", [status for status in Status if status != Status.FINISHED])
def test_model_that_is_not_finished_neither_predicts_nor_leaves(buyer: Buyer, status: Status) -> None:
    model_id = buyer.model(status)
    words = f"model {model_id} is {status}: it predicts when it is FINISHED"
    file_id = buyer.upload(b"age,bmi\n1,2\n").get_json()["id"]
    assert refusal(buyer.predict(model_id, rows=[[1, 2]]), 409) == (None, words)
    assert refusal(buyer.predict(model_id, file_id=file_id), 409) == (None, words)
    assert refusal(buyer.client.get(f"/models/{model_id}/download"), 409) == (None, words)


def test_what_there_is_not_is_not_found(buyer: Buyer, model_id: str) -> None:
    nobody = str(uuid.uuid4())
    refusal(buyer.predict(nobody, rows=[[1, 2]]), 404)
    refusal(buyer.predict(model_id, file_id=nobody), 404)
    refusal(buyer.client.get(f"/predictions/{nobody}"), 404)
    refusal(buyer.client.get(f"/models/{nobody}/download"), 404)


NAN, INFINITE = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("rows", "field", "words"),
    [
        ([], "rows", "at least 1 item"),
        ([7], "rows.0", "must be a list of numbers, or an object"),
        ([[1, 2], {"age": 1, "bmi": 2}], "rows.1", "must be all lists, or all objects"),
        ([[1, 2], [1]], "rows.1", "there are 1, and 2 numbers are expected: Age, bmi"),
        ([[1, 2, 3]], "rows.0", "there are 3, and 2 numbers are expected: Age, bmi"),
        ([{"age": 1}], "rows.0.bmi", "is missing"),
        ([{}], "rows.0.Age", "is missing"),
        ([{"age": 1, "bmi": 2, "height": 3}], "rows.0.height", "is no feature of the model"),
        ([{"age": 1, "AGE": 1, "bmi": 2}], "rows.0", "names a column twice"),
        ([{"age": 1, "bmi": 2, "target": 3}, {"age": 1, "bmi": 2}], "rows.1.Target", "is missing"),
        ([{"age": 1, "bmi": 2}, {"age": 1, "bmi": 2, "target": 3}], "rows.1.target", "or not in the first row"),
        ([[1, "2"]], "rows.0.1", "must be a number, from -1e+15 to 1e+15"),
        ([[1, None]], "rows.0.1", "must be a number"),
        ([[1, True]], "rows.0.1", "must be a number"),
        ([[1, [2]]], "rows.0.1", "must be a number"),
        ([[1, NAN]], "rows.0.1", "must be a number"),
        ([[1, -INFINITE]], "rows.0.1", "must be a number"),
        ([[1, 10**400]], "rows.0.1", "must be a number"),
        ([{"age": 1, "bmi": 1.1e15}], "rows.0.bmi", "must be a number"),
        ([[1, 2]] * (predictions.MAX_ROWS + 1), "rows", "at most 100000 items"),
    ],
)
def test_rows_that_are_not_the_models_are_refused(
    buyer: Buyer, model_id: str, rows: Any, field: str, words: str
) -> None:
    total = buyer.client.get("/predictions").get_json()["total"]
    found_field, reason = refusal(buyer.predict(model_id, rows=rows))
    assert found_field == field and words in reason
    assert buyer.client.get("/predictions").get_json()["total"] == total


@pytest.mark.parametrize("source", [{}, {"rows": [[1, 2]], "file_id": str(uuid.uuid4())}])
def test_rows_or_a_file_are_sent_and_not_both(buyer: Buyer, model_id: str, source: Any) -> None:
    assert refusal(buyer.predict(model_id, **source)) == ("body", "send either rows or the file_id of an uploaded file")


def test_body_with_rows_is_bounded(buyer: Buyer) -> None:
    refusal(buyer.client.post("/predictions", data=b" " * (api.ROWS_BYTES + 1), content_type="application/json"), 413)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"age\n1\n", "the file has no column 'bmi'"),
        (b"x,y\n1,2\n", "the file has no column 'Age', 'bmi'"),
        (b"age,bmi,height,target\n1,2,3,4\n", "the model has no feature 'height', nor is its target called so"),
    ],
)
def test_file_without_the_models_columns_is_refused(buyer: Buyer, model_id: str, content: bytes, words: str) -> None:
    file_id = buyer.upload(content).get_json()["id"]
    assert refusal(buyer.predict(model_id, file_id=file_id)) == ("file_id", words)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "the file is empty"),
        (b"age,bmi\n", "the table has a header but no rows"),
        (b"age,bmi\n1,x\n", "line 2, column 'bmi': 'x' is no number"),
        (b"PAR1 and no more", "this is no Parquet file that can be read"),
        (b"age\n" + b"1\n" * (predictions.MAX_ROWS + 1), "the table has more than 100000 rows: split it"),
        (as_parquet(pl.DataFrame({"a": pl.repeat(1.0, LIMIT_BYTES, eager=True)})), "more than 2097152 numbers"),
    ],
)
def test_refused_file_is_not_kept(buyer: Buyer, content: bytes, words: str) -> None:
    before = sorted(buyer.files.iterdir())
    field, reason = refusal(buyer.upload(content))
    assert field == "file" and words in reason
    assert sorted(buyer.files.iterdir()) == before


def test_upload_is_bounded(buyer: Buyer) -> None:
    before = sorted(buyer.files.iterdir())
    refusal(buyer.upload(b"age,bmi\n" + b"1,2\n" * (LIMIT_BYTES // 4)), 413)
    assert refusal(buyer.upload(b"age,bmi\n1,2\n", "../../rows.csv"))[0] == "file"
    assert sorted(buyer.files.iterdir()) == before


def test_predictions_are_listed_page_by_page_with_the_newest_first(tmp_path: Path) -> None:
    buyer = Buyer(tmp_path)
    model_id = buyer.model()
    made = [buyer.predict(model_id, rows=[[number, 0]]).get_json() for number in range(23)]
    for one in made:
        assert buyer.client.get(f"/predictions/{one['id']}").get_json() == one
    newest = [one["id"] for one in reversed(made)]
    for query, ids in {
        "": newest[:20],
        "?limit=2": newest[:2],
        "?limit=2&offset=21": newest[21:],
        "?offset=99": [],
    }.items():
        page = buyer.client.get(f"/predictions{query}").get_json()
        assert ([one["id"] for one in page["predictions"]], page["total"]) == (ids, 23)
        assert all("predictions" not in one for one in page["predictions"])
    buyer.database.close()


@pytest.mark.parametrize(
    ("query", "field"), [("limit=0", "limit"), ("limit=101", "limit"), ("offset=-1", "offset"), ("limit=x", "limit")]
    + [("offset=9999999999999999999999", "offset"), ("page=2", "page")]
)  # fmt: skip
def test_page_that_is_none_is_refused(buyer: Buyer, query: str, field: str) -> None:
    assert refusal(buyer.client.get(f"/predictions?{query}"))[0] == field


def test_downloaded_model_says_what_it_is_and_how_it_was_trained(buyer: Buyer) -> None:
    model_id = buyer.model(outcome={"model": "trained", "iterations": 100, "initial_mse": 9.0, "mse": 2.0})
    answer = buyer.client.get(f"/models/{model_id}/download")
    assert answer.headers["Content-Disposition"] == f'attachment; filename="{model_id}.json"'
    document = answer.get_json()
    assert (document["features"], document["target"]) == (["Age", "bmi"], "Target")
    assert (document["intercept"], document["coefficients"]) == (3.0, [0.5, -2.0])
    training = document["training"]
    assert (training["iterations"], training["mse"], training["delivered_model"]) == (100, 2.0, "trained")
    assert training["hyper_parameters"]["learning_rate"] == 0.1
    assert refusal(buyer.client.get(f"/models/{model_id}/download?format=pickle"))[0] == "format"


def test_manuals_two_lines_make_a_fitted_scikit_learn_model(
    buyer: Buyer, model_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = buyer.client.get(f"/models/{model_id}/download?format=sklearn")
    assert "attachment" in answer.headers["Content-Disposition"]
    (tmp_path / "model.json").write_bytes(answer.data)
    monkeypatch.chdir(tmp_path)
    (lines,) = re.findall(r"```python\n(.*?)```", MANUAL.read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(lines, names)
    model = names["model"]
    assert isinstance(model, LinearRegression)
    table = pl.DataFrame(np.random.default_rng(1).normal(size=(50, 2)), schema=["Age", "bmi"])
    predicted = buyer.predict(model_id, rows=table.to_dicts()).get_json()["predictions"]
    assert model.predict(table.select(model.feature_names_in_)).tolist() == pytest.approx(predicted, rel=1e-14)
    with pytest.raises(ValueError, match="feature names"):
        model.predict(table.select("bmi", "Age"))
    assert json.loads(answer.data)["coef_"] == WEIGHTS[1:]


def test_what_is_anothers_is_as_if_it_were_not_there(buyer: Buyer, model_id: str) -> None:
    file_id = buyer.upload(b"age,bmi\n10,1\n").get_json()["id"]
    prediction_id = buyer.predict(model_id, rows=[[10, 1]]).get_json()["id"]
    buyer.log_in(buyer.users.add("Eve", "eve@example.org").id)
    try:
        assert f"there is no model {model_id}" in refusal(buyer.predict(model_id, rows=[[10, 1]]), 404)[1]
        refusal(buyer.client.get(f"/models/{model_id}/download"), 404)
        refusal(buyer.client.get(f"/predictions/{prediction_id}"), 404)
        refusal(buyer.client.delete(f"/helpers/file/{file_id}"), 404)
        assert buyer.client.get("/predictions").get_json()["total"] == 0
    finally:
        buyer.log_in(buyer.user_id)
    assert buyer.predict(model_id, file_id=file_id).status_code == 201
