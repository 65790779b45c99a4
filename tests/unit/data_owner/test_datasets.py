"""Uploaded tables are read once into sums, listed with what they fit, and kept while a training is about them."""

from __future__ import annotations

import io
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from commons.database import Database
from commons.errors import InvalidInput
from commons.http import application
from commons.protocol.messages import DataRequirements, HyperParameters, Order, Participants
from data_owner import datasets
from data_owner.api import datasets as api
from data_owner.storage import Status, Storage, Training
from tests.unit.tables.tables import write_csv, write_parquet

MIGRATIONS = Path(datasets.__file__).parent / "migrations"
LIMIT_BYTES = 2**20
ROWS = b"Age,target\n1,2\n3,4.5\n"


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Storage]:
    database = Database(f"sqlite:///{tmp_path / 'service.db'}")
    database.migrate(MIGRATIONS)
    yield Storage(database)
    database.close()


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


@pytest.fixture
def client(storage: Storage, scratch: Path) -> FlaskClient:
    app = application.create(__name__)
    app.register_blueprint(api.blueprint(api.Datasets(storage, scratch, LIMIT_BYTES)))
    return app.test_client()


def upload(client: FlaskClient, content: bytes, name: str = "rows.csv") -> TestResponse:
    body = {"file": (io.BytesIO(content), name)}
    answer = client.post("/datasets", data=body, content_type="multipart/form-data")
    answer.request.environ["wsgi.input"].close()  # a temporary file, if it is large
    return answer


def offer(storage: Storage, features: list[str], high: float, status: Status = Status.OFFERED, **values: Any) -> str:
    requirements = {"features": {"list": features, "range": [0, high]}, "target": {"range": [0, 5]}}
    order = Order(
        model_type="LINEAR_REGRESSION",
        data_requirements=DataRequirements.model_validate(requirements),
        hyper_parameters=HyperParameters(),
        participants=Participants(),
        modulus="f" * 512,
    )
    training = Training(
        id=uuid.uuid4(),
        status=status,
        order=order.canonical(),
        buyer="0x" + "12" * 20,
        aggregator="0x" + "34" * 20,
        aggregator_url="http://127.0.0.1:8080",
        **values,
    )
    storage.offer(training)
    return str(training.id)


def parquet(**columns: Any) -> bytes:
    content = io.BytesIO()
    pl.DataFrame(columns).write_parquet(content)
    return content.getvalue()


@pytest.mark.parametrize("write", [write_csv, write_parquet])
def test_sums_are_those_of_all_rows(tmp_path: Path, write: Any) -> None:
    table = np.random.default_rng(3).normal(size=(50_001, 21))
    names = tuple(f"x{index}" for index in range(21))
    dataset = datasets.read("rows", write(table, names, tmp_path / "rows"), table.size)
    design = np.column_stack([np.ones(len(table)), table])
    found = dataset.table
    assert (dataset.name, dataset.rows, found.rows, found.columns) == ("rows", len(table), len(table), names)
    np.testing.assert_allclose(found.gram, design.T @ design, rtol=1e-9, atol=1e-9)
    assert found.minima.tolist() == table.min(axis=0).tolist()
    assert found.maxima.tolist() == table.max(axis=0).tolist()


def test_table_of_one_column_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("age|target\n1|2\n")
    with pytest.raises(InvalidInput, match="one column only: separate columns with a comma, a semicolon or a tab"):
        datasets.read("rows.csv", path, 100)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(ROWS, id="comma"),
        pytest.param(ROWS.replace(b",", b";"), id="semicolon"),
        pytest.param(ROWS.replace(b",", b"\t"), id="tab"),
        pytest.param(b"\xef\xbb\xbf" + ROWS, id="byte order mark"),
        pytest.param(parquet(Age=[1, 3], target=[2.0, 4.5]), id="Parquet"),
    ],
)
def test_upload_is_listed_with_rows_columns_and_ranges_and_no_row_stays(
    client: FlaskClient, storage: Storage, scratch: Path, content: bytes
) -> None:
    answer = upload(client, content)
    assert answer.status_code == 201
    dataset = answer.get_json()
    assert dataset["columns"] == [
        {"name": "Age", "minimum": 1.0, "maximum": 3.0},
        {"name": "target", "minimum": 2.0, "maximum": 4.5},
    ]
    assert (dataset["name"], dataset["rows"], dataset["fits"]) == ("rows.csv", 2, [])
    assert client.get("/datasets").get_json()["datasets"] == [dataset]
    assert client.get(f"/datasets/{dataset['id']}").get_json() == dataset
    np.testing.assert_array_equal(
        storage.dataset(uuid.UUID(dataset["id"])).table.gram, [[2, 4, 6.5], [4, 10, 15.5], [6.5, 15.5, 24.25]]
    )
    assert list(scratch.iterdir()) == []


def test_listing_says_which_requests_on_offer_a_dataset_fits(client: FlaskClient, storage: Storage) -> None:
    fitting = offer(storage, ["AGE"], 3)
    offer(storage, ["age"], 2.9)
    offer(storage, ["age", "bmi"], 3)
    offer(storage, ["age"], 3, Status.INITIATED)
    assert upload(client, ROWS).get_json()["fits"] == [fitting]
    upload(client, b"age,target\n4,2\n")
    assert [dataset["fits"] for dataset in client.get("/datasets").get_json()["datasets"]] == [[], [fitting]]


def test_dataset_in_use_is_not_deleted(client: FlaskClient, storage: Storage) -> None:
    used, unused = (upload(client, ROWS).get_json()["id"] for _ in range(2))
    offer(storage, ["age"], 3, Status.INITIATED, dataset_id=uuid.UUID(used))
    refused = client.delete(f"/datasets/{used}")
    assert (refused.status_code, refused.mimetype) == (409, "application/problem+json")
    assert client.delete(f"/datasets/{unused}").status_code == 204
    assert [dataset["id"] for dataset in client.get("/datasets").get_json()["datasets"]] == [used]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "the file is empty"),
        (b"age,target\n", "the table has a header but no rows"),
        (b"age,Target,TARGET\n1,2,3\n", "names columns twice: target"),
        (b"age,target\n1,many\n", "line 2, column 'target': 'many' is no number"),
        (b'age,target\n"1,5",2\n', "write decimals with a point"),
        (parquet(age=[1.0], target=["many"]), "column 'target' has no numbers: its type is String"),
        (parquet(age=[1.0], target=[1.0])[:-1], "this is no Parquet file that can be read"),
        (b"PAR1PAR1", "this is no Parquet file that can be read"),
        (b"x" * (LIMIT_BYTES - 1000), "its first line is endless"),
    ],
)
def test_refused_upload_leaves_nothing(client: FlaskClient, scratch: Path, content: bytes, words: str) -> None:
    answer = upload(client, content)
    assert (answer.status_code, answer.mimetype) == (422, "application/problem+json")
    (error,) = answer.get_json()["errors"]
    assert error["field"] == "file" and words in error["reason"]
    assert client.get("/datasets").get_json()["datasets"] == []
    assert list(scratch.iterdir()) == []


def test_upload_is_bounded_in_bytes_and_in_what_it_decompresses_to(client: FlaskClient, scratch: Path) -> None:
    too_large = upload(client, b"age,target\n" + b"1,2\n" * (LIMIT_BYTES // 4))
    assert too_large.status_code == 413
    bomb = parquet(age=pl.repeat(1.0, LIMIT_BYTES, eager=True), target=pl.repeat(1.0, LIMIT_BYTES, eager=True))
    assert len(bomb) < LIMIT_BYTES // 10
    answer = upload(client, bomb)
    assert answer.status_code == 422
    assert f"{LIMIT_BYTES} rows × 2 columns, more than {LIMIT_BYTES // 2} numbers" in answer.get_json()["detail"]
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["../rows.csv", "/etc/passwd", "..\\\\rows.csv", "C:\\\\rows.csv", "..", "a/", "a\x1bb"]
)
def test_file_name_that_is_a_path_is_refused(client: FlaskClient, tmp_path: Path, name: str) -> None:
    before = sorted(tmp_path.rglob("*"))
    answer = upload(client, ROWS, name)
    assert answer.status_code == 422
    assert "the file's name must" in answer.get_json()["detail"]
    assert sorted(tmp_path.rglob("*")) == before


def test_name_of_a_link_leads_nowhere(client: FlaskClient, tmp_path: Path, scratch: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("untouched")
    for name in ("upload", "rows.csv"):
        (scratch / name).symlink_to(outside)
        assert upload(client, ROWS, name).status_code == 201
    assert outside.read_text() == "untouched"


def test_other_bodies_than_a_form_with_a_file_are_refused(client: FlaskClient) -> None:
    assert client.post("/datasets", json={"file": "age,target"}).status_code == 415
    answer = client.post("/datasets", data={"file": "age,target"}, content_type="multipart/form-data")
    assert (answer.status_code, answer.get_json()["errors"][0]["field"]) == (422, "file")
