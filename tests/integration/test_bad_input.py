"""What people may send by mistake or in bad faith, over real HTTP: refused in plain words, at no loss."""

from __future__ import annotations

import io
import json
import re
import uuid
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from eth_account import Account
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

import model_buyer.app
from commons.http.bodies import MESSAGEPACK
from commons.learning.local_steps import DivergingStep, require_stable
from commons.learning.statistics import TableStatistics
from commons.protocol.messages import (
    PROTOCOL_VERSION,
    Acceptance,
    CosignQuestion,
    Delivery,
    LocalModelQuestion,
    MaskedModels,
    MaskedRound,
    Message,
    Metric,
    Moments,
    MomentsCosignQuestion,
    MomentsQuestion,
    MomentsTotals,
    Notice,
    RoundQuestion,
    ScoreQuestion,
    Totals,
)
from model_buyer.config import Config
from scripts.local import diabetes, flow
from tests.integration.conftest import ROWS, Town
from tests.integration.refusals import GONE, Json, refused, send, session, sign_up, unchanged, with_value
from tests.signing import voice


@pytest.fixture(scope="module")
def http(town: Town) -> Iterator[requests.Session]:
    with session(town) as made:
        yield made


# Datasets

HEAD = b"age,target\n"


def archive() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        file.writestr("xl/workbook.xml", "<workbook/>")
    return content.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(HEAD + b"1,2\nold,3\n", "line 3, column 'age': 'old' is no number", id="text"),
        pytest.param(HEAD + b"1,2\n1,NaN\n", "line 3, column 'target': 'NaN' is no number", id="nan"),
        pytest.param(HEAD + b"-inf,2\n", "line 2, column 'age': '-inf' is no number", id="infinite"),
        pytest.param(HEAD + b"1e999,2\n", "line 2, column 'age': 1e999 is beyond 1e+15", id="overflowing"),
        pytest.param(HEAD + b"1e200,2\n", "line 2, column 'age': 1e200 is beyond 1e+15", id="square overflows"),
        pytest.param(HEAD + b"1,\n", "line 2, column 'target': a number is missing", id="empty field"),
        pytest.param(HEAD + b'"1,5",2\n', "line 2, column 'age': '1,5' is no number", id="decimal comma"),
        pytest.param(HEAD + b"1,\xff2\n", "line 2, column 'target': '\N{REPLACEMENT CHARACTER}2' is no n", id="bytes"),
        pytest.param(HEAD, "the table has a header but no rows", id="no rows"),
        pytest.param(HEAD + b"\n\n\n", "the table has a header but no rows", id="blank rows"),
        pytest.param(b"1,2\n3,4\n", "the first line has numbers only: give the table a header", id="no header"),
        pytest.param(HEAD + b"1,2\n1,2,3\n", "line 3: the number of fields is 3, in the header it is 2", id="longer"),
        pytest.param(HEAD + b"1,2\n1\n", "line 3: the number of fields is 1, in the header it is 2", id="shorter"),
        pytest.param(HEAD + b"1\n1,2\n", "line 2: the number of fields is 1, in the header it is 2", id="1st shorter"),
        pytest.param(HEAD + b"1;2\n", "line 2: the number of fields is 1, in the header it is 2", id="separators"),
        pytest.param(HEAD + b'"1,2\n3,4\n', "the number of fields is 1, in the header it is 2", id="open quote"),
        pytest.param(b"age|target\n1|2\n", "separate columns with a comma, a semicolon or a tab", id="separator"),
        pytest.param(b"age\n1\n", "the header has one column only", id="one column"),
        pytest.param(b"age,,target\n1,2,3\n", "column 2 of the header has no name", id="unnamed column"),
        pytest.param(b"age,target,Age\n1,2,3\n", "the header names columns twice: age", id="column twice"),
        pytest.param(b"a\0ge,target\n1,2\n", "its first line is endless or has control characters", id="NUL in header"),
        pytest.param(b"age,target\r1,2\r", "its first line is endless or has control characters", id="old Mac"),
        pytest.param(b"x" * 200_000, "its first line is endless or has control characters", id="endless line"),
        pytest.param(b"", "the file is empty", id="0 bytes"),
        pytest.param(b"\n1,2\n", "the file is empty, or its first line is", id="blank first line"),
        pytest.param(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "this is neither CSV nor Parquet", id="PNG"),
        pytest.param(archive(), "this is neither CSV nor Parquet", id="spreadsheet"),
        pytest.param("age,target\n1,2\n".encode("utf-16"), "its first line is not UTF-8 text", id="UTF-16"),
        pytest.param("größe,target\n1,2\n".encode("latin-1"), "its first line is not UTF-8 text", id="Latin-1"),
        pytest.param(
            b",".join(b"%d" % i for i in range(2000)), "the header has 2000 columns, more than 1000", id="wide"
        ),
    ],
)
def test_unreadable_dataset_is_refused(town: Town, http: requests.Session, content: bytes, words: str) -> None:
    with unchanged(town, "owner-1") as url:
        answer = http.post(f"{url}/datasets", files={"file": ("rows.csv", content)})
        assert words in refused(answer, 422, "file")


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"age,target\n1,2\n3,4.5\n", id="plain"),
        pytest.param(b"\xef\xbb\xbfage,target\n1,2\n3,4.5\n", id="byte order mark"),
        pytest.param(b"age,target\r\n1,2\r\n3,4.5\r\n", id="CRLF"),
        pytest.param(b'"age","target"\n"1","2"\n"3","4.5"\n', id="quoted"),
        pytest.param(b"age;target\n1;2\n3;4.5\n", id="semicolons"),
        pytest.param(b"age\ttarget\n1\t2\n3\t4.5\n", id="tabs"),
        pytest.param(b"age, target\n1, 2\n3, 4.5\n", id="spaces after commas"),
        pytest.param(b"age,target\n1,2\n\n3,4.5\n\n", id="blank lines"),
        pytest.param(b"age,target\n1,2\n3,4.5", id="no end of line"),
        pytest.param(b"age,target\n+1,2e0\n3,.45e1\n", id="signs and exponents"),
    ],
)
def test_readable_dataset_is_taken(town: Town, http: requests.Session, content: bytes) -> None:
    with unchanged(town, "owner-1") as url:
        answer = http.post(f"{url}/datasets", files={"file": ("rows.csv", content)})
        assert answer.status_code == 201, answer.text
        dataset = answer.json()
        assert (dataset["name"], dataset["rows"]) == ("rows.csv", 2)
        assert dataset["columns"] == [
            {"name": "age", "minimum": 1.0, "maximum": 3.0},
            {"name": "target", "minimum": 2.0, "maximum": 4.5},
        ]
        assert http.get(f"{url}/datasets/{dataset['id']}").json() == dataset
        assert http.delete(f"{url}/datasets/{dataset['id']}").status_code == 204


@pytest.mark.parametrize(
    "name",
    [b"../rows.csv", b"../../etc/passwd", b"/etc/passwd", b"..\\\\rows.csv", b"C:\\\\rows.csv", b"..", b"a/"]
    + [b"a\0.csv", b"a\x1b[2J.csv", "a\N{RIGHT-TO-LEFT OVERRIDE}vsc.csv".encode()],
)
def test_file_name_that_is_none_is_refused(town: Town, http: requests.Session, name: bytes) -> None:
    with unchanged(town, "owner-1") as url:
        disposition = b'--limit\r\nContent-Disposition: form-data; name="file"; filename="' + name + b'"\r\n\r\n'
        body = disposition + HEAD + b"1,2\n\r\n--limit--\r\n"
        answer = http.post(
            f"{url}/datasets", data=body, headers={"Content-Type": "multipart/form-data; boundary=limit"}
        )
        assert "the file's name must" in refused(answer, 422, "file")
    assert not any(town.platform.directory.rglob("passwd"))


def test_upload_without_a_file_is_refused(town: Town, http: requests.Session) -> None:
    with unchanged(town, "owner-1") as url:
        other_name = http.post(f"{url}/datasets", files={"rows": ("rows.csv", HEAD + b"1,2\n")})
        assert "send a CSV or Parquet file under this name" in refused(other_name, 422, "file")
        no_file = http.post(f"{url}/datasets", files={"file": (None, "1,2")})
        assert "send a CSV or Parquet file under this name" in refused(no_file, 422, "file")
        as_json = http.post(f"{url}/datasets", json={"file": "age,target"})
        assert "as multipart/form-data" in refused(as_json, 415)
        cut = {"Content-Type": "multipart/form-data"}
        refused(http.post(f"{url}/datasets", data=b"--", headers=cut), 422, "file")


# Orders


@pytest.fixture(scope="module")
def order(town: Town) -> Json:
    """Return an order that would be taken."""
    return flow.order_for(town.buyer_id, diabetes.FEATURES)


NAN, INFINITE = float("nan"), float("inf")
DATA, FEATURES, TARGET = "data_requirements", "data_requirements.features", "data_requirements.target"
STANDARD = [{"method": "standard"}]
PAYMENT, HYPER = "payments_requirements.pay_for_model", "hyper_parameters"


@pytest.mark.parametrize(
    ("path", "value", "field", "words"),
    [
        ("model_type", "NEURAL_NETWORK", "model_type", "is unknown: LINEAR_REGRESSION is the one there is"),
        ("model_type", 7, "model_type", "is unknown: LINEAR_REGRESSION is the one there is"),
        ("model_type", GONE, "model_type", "is missing"),
        ("name", "", "name", "at least 1 character"),
        ("name", "x" * 201, "name", "at most 200 characters"),
        ("name", "a\nb", "name", "must not have control characters"),
        ("name", None, "name", "should be a valid string"),
        ("user_id", "me", "user_id", "valid UUID"),
        ("colour", "red", "colour", "is not known here: check its name"),
        (f"{FEATURES}.colour", "red", f"{FEATURES}.colour", "is not known here: check its name"),
        (DATA, GONE, DATA, "is missing"),
        (DATA, [], DATA, "must be an object"),
        (f"{FEATURES}.list", GONE, f"{FEATURES}.list", "is missing"),
        (f"{FEATURES}.list", [], f"{FEATURES}.list", "must name 1 to 500 columns, and names 0"),
        (f"{FEATURES}.list", ["x" + str(i) for i in range(501)], f"{FEATURES}.list", "and names 501"),
        (f"{FEATURES}.list", ["x" + str(i) for i in range(200)], f"{FEATURES}.list", "too many for 4 trainers"),
        (f"{FEATURES}.list", "age", f"{FEATURES}.list", "should be a valid array"),
        (f"{FEATURES}.list", ["age", 7], f"{FEATURES}.list.1", "should be a valid string"),
        (f"{FEATURES}.list", ["age", "bmi", "AGE"], f"{FEATURES}.list", "named twice: age"),
        (f"{FEATURES}.list", ["age", "target"], DATA, "'target' is both a feature and the target"),
        (f"{FEATURES}.range", [2, -2], f"{FEATURES}.range", "the lower bound 2 must be below the upper bound -2"),
        (f"{FEATURES}.range", [1, 1], f"{FEATURES}.range", "the lower bound 1 must be below the upper bound 1"),
        (f"{FEATURES}.range", [1], f"{FEATURES}.range", "must be a list of two numbers"),
        (f"{FEATURES}.range", [1, 2, 3], f"{FEATURES}.range", "must be a list of two numbers"),
        (f"{FEATURES}.range", {"from": 1}, f"{FEATURES}.range", "must be a list of two numbers"),
        (f"{FEATURES}.range", ["-2", 2], f"{FEATURES}.range.0", "should be a valid number"),
        (f"{FEATURES}.range", [-2, True], f"{FEATURES}.range.1", "should be a valid number"),
        (f"{FEATURES}.range", [NAN, 2], f"{FEATURES}.range.0", "should be a finite number"),
        (f"{FEATURES}.range", [-2, INFINITE], f"{FEATURES}.range.1", "should be a finite number"),
        (f"{FEATURES}.range", [-2, 1e16], f"{FEATURES}.range.1", "less than or equal to 1000000000000000"),
        (f"{FEATURES}.pre_processing", ["scale"], f"{FEATURES}.pre_processing.0", "must be an object"),
        (f"{FEATURES}.pre_processing", [{}], f"{FEATURES}.pre_processing.0.method", "is missing"),
        (f"{FEATURES}.pre_processing", [{"method": "scale"}], f"{FEATURES}.pre_processing.0.method", "is unknown"),
        (f"{FEATURES}.pre_processing", STANDARD * 2, f"{FEATURES}.pre_processing", "at most one step"),
        (f"{FEATURES}.pre_processing", STANDARD, "participants.minimum", "with 3 data owners 2 would train"),
        (f"{FEATURES}.desc", "text", f"{FEATURES}.desc", "must be an object or a list"),
        (f"{FEATURES}.desc", {"age": NAN}, f"{FEATURES}.desc", "cannot be sent on"),
        (f"{FEATURES}.desc", {"age": 2**64}, f"{FEATURES}.desc", "cannot be sent on"),
        (f"{FEATURES}.desc", {"age": "x" * 10_000}, f"{FEATURES}.desc", "more than 10000"),
        (TARGET, GONE, TARGET, "is missing"),
        (f"{TARGET}.name", "age", DATA, "'age' is both a feature and the target"),
        (f"{TARGET}.range", [346, 25], f"{TARGET}.range", "the lower bound 346 must be below the upper bound 25"),
        (f"{TARGET}.range", [0, 1e308], f"{TARGET}.range.1", "less than or equal to 1000000000000000"),
        (f"{TARGET}.range", [0, 1e-300], f"{TARGET}.range", "one bound must be at least 1e-15 away from zero"),
        ("payments_requirements", GONE, "payments_requirements", "is missing"),
        (f"{PAYMENT}.value", GONE, f"{PAYMENT}.value", "is missing"),
        (f"{PAYMENT}.value", 0, f"{PAYMENT}.value", "greater than 0"),
        (f"{PAYMENT}.value", -5, f"{PAYMENT}.value", "greater than 0"),
        (f"{PAYMENT}.value", NAN, f"{PAYMENT}.value", "should be a finite number"),
        (f"{PAYMENT}.value", "NaN", f"{PAYMENT}.value", "should be a finite number"),
        (f"{PAYMENT}.value", INFINITE, f"{PAYMENT}.value", "should be a finite number"),
        (f"{PAYMENT}.value", 1e30, f"{PAYMENT}.value", "less than or equal to"),
        (f"{PAYMENT}.value", 1e-19, f"{PAYMENT}.value", "is no whole number of wei"),
        (f"{PAYMENT}.value", "1.0000000000000000000000000000000001", f"{PAYMENT}.value", "is no whole number of wei"),
        (f"{PAYMENT}.value", "five", f"{PAYMENT}.value", "must be a number"),
        (f"{PAYMENT}.value", True, f"{PAYMENT}.value", "must be a number"),
        (f"{PAYMENT}.unit", "euro", f"{PAYMENT}.unit", "should be 'ether', 'gwei' or 'wei'"),
        (f"{HYPER}.iterations", 0, f"{HYPER}.iterations", "greater than or equal to 1"),
        (f"{HYPER}.iterations", 10_001, f"{HYPER}.iterations", "less than or equal to 10000"),
        (f"{HYPER}.iterations", "100", f"{HYPER}.iterations", "should be a valid integer"),
        (f"{HYPER}.iterations", 1.5, f"{HYPER}.iterations", "should be a valid integer"),
        (f"{HYPER}.iterations", True, f"{HYPER}.iterations", "should be a valid integer"),
        (f"{HYPER}.learning_rate", 0, f"{HYPER}.learning_rate", "greater than 0"),
        (f"{HYPER}.learning_rate", NAN, f"{HYPER}.learning_rate", "should be a finite number"),
        (f"{HYPER}.learning_rate", "0.1", f"{HYPER}.learning_rate", "should be a valid number"),
        (f"{HYPER}.learning_rate", True, f"{HYPER}.learning_rate", "should be a valid number"),
        (f"{HYPER}.ridge", -1, f"{HYPER}.ridge", "greater than or equal to 0"),
        (f"{HYPER}.tolerance", 1, f"{HYPER}.tolerance", "less than 1"),
        (f"{HYPER}.weighting", "wealth", f"{HYPER}.weighting", "should be 'rows' or 'equal'"),
        (f"{HYPER}.key_bits", 1024, f"{HYPER}.key_bits", "should be 2048 or 3072"),
        (f"{HYPER}.epochs", 5, f"{HYPER}.epochs", "is not known here: check its name"),
        ("participants.wanted", 2, "participants.wanted", "greater than or equal to 3"),
        ("participants.minimum", 6, "participants", "minimum 6 is above wanted 5"),
        ("participants.validator_share", 1, "participants.validator_share", "less than or equal to 0.9"),
        ("terms.join_seconds", 0, "terms.join_seconds", "greater than or equal to 1"),
        ("terms.join_seconds", "1 day", "terms.join_seconds", "should be a valid integer"),
        ("terms.fixed_share", 1.1, "terms.fixed_share", "less than or equal to 1"),
    ],
)
def test_bad_order_is_refused(
    town: Town, http: requests.Session, order: Json, path: str, value: Any, field: str, words: str
) -> None:
    with unchanged(town, "buyer") as url:
        body = json.dumps(with_value(order, path, value))  # with NaN and Infinity, as Python writes them
        answer = http.post(f"{url}/models", data=body, headers={"Content-Type": "application/json"})
        assert words in refused(answer, 422, field)


def test_everything_that_is_wrong_with_an_order_is_said_at_once(
    town: Town, http: requests.Session, order: Json
) -> None:
    with unchanged(town, "buyer") as url:
        body = with_value(with_value(order, "name", ""), f"{HYPER}.iterations", 0)
        refused(http.post(f"{url}/models", json=body), 422, "name", f"{HYPER}.iterations")


def test_order_in_anothers_name_is_refused(town: Town, http: requests.Session, order: Json) -> None:
    with unchanged(town, "buyer") as url:
        body = with_value(order, "user_id", str(uuid.uuid4()))
        assert "must be your own id" in refused(http.post(f"{url}/models", json=body), 422, "user_id")


def test_order_beyond_the_means_is_refused(town: Town, http: requests.Session, order: Json) -> None:
    with unchanged(town, "buyer") as url:
        body = with_value(order, f"{PAYMENT}.value", 10**8)
        assert "has too little ether" in refused(http.post(f"{url}/models", json=body), 402)


BODIES = [
    pytest.param(b"", 400, "the body is not JSON", id="nothing"),
    pytest.param(b"{", 400, "the body is not JSON: EOF while parsing an object at line 1 column 1", id="half"),
    pytest.param(b"{'name': 'x'}", 400, "the body is not JSON: key must be a string", id="Python"),
    pytest.param(b'{"name": "\xff"}', 400, "the body is not JSON: invalid unicode", id="not UTF-8"),
    pytest.param(b'{"name": "\\ud800"}', 400, "the body is not JSON", id="half a surrogate pair"),
    pytest.param(b"[" * 50_000, 400, "the body is not JSON: recursion limit exceeded", id="deep"),
    pytest.param(b"\x81\xa4name\xa1x", 400, "the body is not JSON", id="MessagePack"),
    pytest.param(b"[]", 422, "body: must be an object", id="list"),
    pytest.param(b'"text"', 422, "body: must be an object", id="text"),
    pytest.param(b'"{\\"name\\": 1}"', 422, "body: must be an object", id="JSON in a string"),
    pytest.param(b"7", 422, "body: must be an object", id="number"),
    pytest.param(b"null", 422, "body: must be an object", id="null"),
]


@pytest.mark.parametrize(("service", "path"), [("buyer", "/models"), ("buyer", "/users"), ("owner-1", "/users")])
@pytest.mark.parametrize(("body", "status", "words"), BODIES)
def test_body_that_is_no_object_is_refused(
    town: Town, http: requests.Session, service: str, path: str, body: bytes, status: int, words: str
) -> None:
    headers = {"Content-Type": "application/json"}
    answer = http.post(town.platform.urls[service] + path, data=body, headers=headers)
    assert words in refused(answer, status, *(["body"] if status == 422 else []))


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", MESSAGEPACK, ""])
def test_other_content_types_are_refused(town: Town, http: requests.Session, order: Json, content_type: str) -> None:
    with unchanged(town, "buyer") as url:
        answer = http.post(f"{url}/models", data=json.dumps(order), headers={"Content-Type": content_type})
        assert refused(answer, 415) == "send the body as application/json"


# Users


@pytest.mark.parametrize("service", ["buyer", "owner-1"])
@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({"password": GONE}, ["password"]),
        ({"password": "short"}, ["password"]),
        ({"name": GONE, "email": GONE}, ["name", "email"]),
        ({"name": "", "email": "a@b.example"}, ["name"]),
        ({"name": "a\0b", "email": "a@b.example"}, ["name"]),
        ({"name": "Ada", "email": "nobody"}, ["email"]),
        ({"name": "Ada", "email": "a@b@c"}, ["email"]),
        ({"name": "Ada", "email": "a\0@b.example"}, ["email"]),
        ({"name": "Ada", "email": "a@b.example\n"}, ["email"]),
        ({"name": "Ada", "email": "x" * 250 + "@b.example"}, ["email"]),
        ({"name": "Ada", "email": "a@b.example", "admin": True}, ["admin"]),
        ({"name": 7, "email": ["a@b.example"]}, ["name", "email"]),
    ],
)
def test_bad_user_is_refused(town: Town, http: requests.Session, service: str, body: Json, fields: list[str]) -> None:
    good = {"name": "Ada", "email": "a@b.example", "password": "a sentence that is long enough"}
    wanted = {name: value for name, value in (good | body).items() if value is not GONE}
    with unchanged(town, service) as url:
        refused(http.post(f"{url}/users", json=wanted), 422, *fields)


def test_user_stays_as_it_is_when_a_change_is_refused(town: Town, http: requests.Session) -> None:
    with unchanged(town, "buyer") as url:
        user = f"{url}/users/{town.buyer_id}"
        again = {"name": "Eve", "email": "buyer@example.org", "password": "a sentence that is long enough"}
        assert "there is a user with the e-mail address" in refused(http.post(f"{url}/users", json=again), 409)
        refused(http.put(user, json={"name": "", "email": "a@b.example"}), 422, "name")
        words = "must be an Ethereum address: 0x and 40 hexadecimal digits"
        assert words in refused(http.post(f"{user}/address", json={"address": "0x12"}), 422, "address")
        other = {"address": "0x" + "12" * 20}
        words = f"this service acts through its own account, {town.platform.accounts['buyer'].address}: give that one"
        assert words in refused(http.post(f"{user}/address", json=other), 422, "address")


def test_owner_without_an_address_cannot_register(town: Town, http: requests.Session) -> None:
    with unchanged(town, "owner-1") as url:
        newcomer = "newcomer", "newcomer@example.org", "a sentence that is long enough"
        user_id = town.services["owner-1"].create_user(*newcomer)
        answer = http.post(f"{url}/users/{user_id}/register")
        assert f"POST /users/{user_id}/address first" in refused(answer, 409)
        assert http.delete(f"{url}/users/{user_id}").status_code == 204


# Routes

ROUTES = {
    "buyer": {
        "/users/{}": ("GET", "PUT", "DELETE"),
        "/users/{}/address": ("POST",),
        "/models/{}": ("GET", "PATCH", "PUT"),
        "/models/{}/mse": ("POST", "PATCH"),
        "/models/{}/moments": ("PATCH",),
        "/models/{}/notice": ("POST",),
        "/models/{}/evidence": ("GET",),
    },
    "owner-1": {
        "/users/{}/register": ("POST",),
        "/datasets/{}": ("GET", "DELETE"),
        "/models/{}": ("GET",),
        "/trainings/{}/accept": ("PUT",),
        "/trainings/{}": ("GET", "PATCH", "PUT", "POST"),
        "/trainings/{}/moments": ("POST", "PATCH", "PUT"),
        "/trainings/{}/metrics": ("POST", "PUT"),
        "/trainings/{}/cosign": ("POST",),
        "/trainings/{}/evidence": ("GET",),
    },
    "aggregator": {
        "/model/{}": ("GET",),
        "/model/{}/transcript": ("GET",),
        "/contributions/{}": ("GET",),
        "/model/{}/accept": ("POST",),
    },
}
CALLS = [(service, path, m) for service, paths in ROUTES.items() for path, methods in paths.items() for m in methods]


def valid_body(path: str, method: str, training_id: str, address: str) -> tuple[type[Message] | None, Json | None]:
    """Return a body that a route takes, about a training (or user) that there is not, and which message it is."""
    vector, digest, signature = b"\x01" * 512, bytes(32), bytes(65)
    message = {"version": PROTOCOL_VERSION, "training": training_id}
    evaluation = {**message, "kind": "zero", "round": 0}
    bodies: Mapping[tuple[str, str], tuple[type[Message] | None, Json]] = {
        ("/users/{}", "PUT"): (None, {"name": "Ada", "email": "ada@example.org"}),
        ("/models/{}", "PATCH"): (MaskedRound, {**message, "round": 0, "trainers": [0, 1], "packed": vector}),
        ("/models/{}", "PUT"): (Delivery, {**message, "model": "trained", "quotients": ["0"], "salt": digest}),
        ("/models/{}/mse", "POST"): (
            MaskedModels,
            {**message, "kind": "iteration", "round": 5, "trainers": [0, 1], "masked": vector},
        ),
        ("/models/{}/mse", "PATCH"): (
            Totals,
            {
                **evaluation, "validators": [0], "ciphertexts": vector, "question": digest, "masks": digest,
                "commitments": [], "cosignatures": [signature],
            },
        ),
        ("/models/{}/moments", "PATCH"): (
            MomentsTotals,
            {**message, "question": digest, "trainers": [0, 1, 2], "ciphertexts": vector, "cosignatures": [signature]},
        ),
        ("/models/{}/notice", "POST"): (Notice, message),
        ("/trainings/{}/moments", "POST"): (MomentsQuestion, message),
        ("/trainings/{}/moments", "PATCH"): (
            MomentsCosignQuestion,
            {**message, "answers": [], "totals": vector, "randomisers": bytes(256)},
        ),
        ("/trainings/{}/moments", "PUT"): (
            Moments,
            {
                **message, "statement": vector, "cosignatures": [signature], "ciphertexts": vector, "totals": ["1"],
                "randomisers": ["1"], "signature": signature,
            },
        ),
        ("/trainings/{}", "PATCH"): (Notice, {**message, "reason": "x"}),
        ("/trainings/{}", "PUT"): (RoundQuestion, {**message, "round": 1, "included": [0, 1], "model": vector}),
        ("/trainings/{}", "POST"): (LocalModelQuestion, message),
        ("/trainings/{}/metrics", "POST"): (ScoreQuestion, evaluation),
        ("/trainings/{}/cosign", "POST"): (
            CosignQuestion,
            {
                **evaluation, "answers": [{"place": 0, "content": vector, "signature": signature}], "totals": vector,
                "randomisers": bytes(256),
            },
        ),
        ("/trainings/{}/metrics", "PUT"): (
            Metric,
            {
                **message, "iteration": 5, "mse": "1" * 23, "statement": vector, "cosignatures": [signature],
                "ciphertexts": vector, "totals": ["1"], "randomisers": ["1"],
            },
        ),
        ("/model/{}/accept", "POST"): (Acceptance, {**message, "address": address}),
    }  # fmt: skip
    return bodies.get((path, method), (None, None))


@pytest.mark.parametrize(("service", "path", "method"), CALLS)
def test_unknown_ids_are_not_found(town: Town, http: requests.Session, service: str, path: str, method: str) -> None:
    url = town.platform.urls[service]
    unknown = str(uuid.uuid4())
    says = "owner-1" if path == "/model/{}/accept" else "aggregator"
    message, body = valid_body(path, method, unknown, town.platform.accounts[says].address)
    if path.endswith("/address"):
        body = {"address": town.platform.accounts[service].address}
    if (path, method) == ("/trainings/{}", "GET") or path.endswith(("/evidence", "/transcript")):
        reader = voice(town.platform, "aggregator" if path == "/trainings/{}" else "arbiter")
        answer = http.get(url + path.format(unknown), auth=reader.auth)
    elif message is None:
        answer = send(http, method, url + path.format(unknown), body)
    else:
        assert body is not None and message.model_validate(body)
        answer = voice(town.platform, says).send(http, method, url + path.format(unknown), message, body)
    assert f"there is no {kind(path, service)} {unknown}" in refused(answer, 404)
    for name in ("1", "me", unknown.replace("-", ""), unknown[:-1], f"{unknown}x", "%00", "..%2f..", "ü"):
        refused(send(http, method, url + path.format(name), body), 404)


def kind(path: str, service: str) -> str:
    if "users" in path:
        return "user"
    if "datasets" in path:
        return "dataset"
    return "model" if service == "buyer" else "training"


@pytest.mark.parametrize(
    ("service", "path", "allowed"),
    [
        ("buyer", "/models", {"GET", "POST"}),
        ("buyer", "/users", {"GET", "POST"}),
        ("buyer", "/helpers/ping", {"GET"}),
        ("owner-1", "/datasets", {"GET", "POST"}),
        ("owner-1", "/models", {"GET"}),
        ("owner-1", "/trainings/00000000-0000-0000-0000-000000000000/accept", {"PUT"}),
        ("aggregator", "/dataowner", {"GET", "POST"}),
        ("aggregator", "/model", {"GET", "POST"}),
    ],
)
def test_other_methods_are_refused_with_those_that_are_allowed(
    town: Town, http: requests.Session, service: str, path: str, allowed: set[str]
) -> None:
    url = town.platform.urls[service] + path
    for method in {"GET", "POST", "PUT", "PATCH", "DELETE"} - allowed:
        answer = http.request(method, url)
        refused(answer, 405)
        assert set(answer.headers["Allow"].split(", ")) - {"HEAD", "OPTIONS"} == allowed


@pytest.mark.parametrize("service", ["buyer", "owner-1", "aggregator"])
def test_unknown_paths_are_not_found(town: Town, http: requests.Session, service: str) -> None:
    for path in ("/nothing", "/users/", "//etc/passwd", "/static/../app.py", "/models/%2e%2e/users"):
        refused(http.get(town.platform.urls[service] + path), 404)


def test_unknown_status_is_refused_with_those_that_there_are(town: Town, http: requests.Session) -> None:
    answer = http.get(town.platform.urls["owner-1"] + "/models", params={"status": "OFFERED"})
    assert "must be one of WAITING, READY, INITIATED, IN_PROGRESS" in refused(answer, 422, "status")


@pytest.mark.parametrize(
    ("service", "path", "content_type", "size"),
    [
        ("buyer", "/models", "application/json", 64 * 2**20 + 1),
        ("buyer", "/users/login", "application/json", 64 * 2**10 + 1),
        ("owner-1", "/trainings", MESSAGEPACK, 64 * 2**20 + 1),
        ("aggregator", "/model", MESSAGEPACK, 10**12),
        ("owner-1", "/datasets", "multipart/form-data; boundary=limit", 1024 * 2**20 + 1),
    ],
)
def test_too_large_body_is_refused_before_it_is_sent(
    town: Town, service: str, path: str, content_type: str, size: int
) -> None:
    with unchanged(town, service) as url, closing(HTTPConnection(urlsplit(url).netloc, timeout=30)) as connection:
        connection.putrequest("POST", path)
        connection.putheader("Content-Type", content_type)
        connection.putheader("Content-Length", str(size))
        auth = voice(town.platform, "aggregator").auth  # services ask for its signatures, as for people's tokens
        signed = auth(requests.Request("POST", url + path, {"Content-Type": content_type}).prepare()).headers
        names = ("Content-Digest", "Signature-Input", "Signature")
        for header in (town.services[service].authorization | {name: signed[name] for name in names}).items():
            connection.putheader(*header)
        connection.endheaders()
        answer = connection.getresponse()
        assert (answer.status, answer.headers["Content-Type"]) == (413, "application/problem+json")
        assert json.load(answer)["status"] == 413


# A buyer in trouble


@pytest.fixture
def buyer(town: Town, tmp_path: Path) -> Iterator[Callable[..., FlaskClient]]:
    """Make another buyer's application, in this process, with other settings than the town's."""

    def make(**settings: Any) -> FlaskClient:
        config = {
            "data_dir": tmp_path,
            "public_url": "http://127.0.0.1:9",
            "chain_url": town.platform.urls["chain"],
            "contract_address": town.buyer.contract()["address"],
            "account_private_key": Account.create().key.to_0x_hex(),
            "aggregator_url": town.platform.urls["aggregator"],
            "arbiter_address": town.platform.accounts["arbiter"].address,
        }
        return model_buyer.app.create_app(Config.model_validate(config | settings)).test_client()

    yield make


def order_in_vain(client: FlaskClient) -> TestResponse:
    answer = client.post("/models", json=flow.order_for(sign_up(client), diabetes.FEATURES))
    assert client.get("/models").get_json()["models"] == []
    return answer


NOBODY = "http://127.0.0.1:9"


def test_order_without_an_aggregator_costs_nothing(buyer: Callable[..., FlaskClient]) -> None:
    answer = order_in_vain(buyer(aggregator_url=NOBODY))
    assert f"{NOBODY}/federated-aggregator does not answer" in refused(answer, 503)


def test_order_at_what_is_no_aggregator_costs_nothing(town: Town, buyer: Callable[..., FlaskClient]) -> None:
    answer = order_in_vain(buyer(aggregator_url=town.platform.urls["owner-1"]))
    assert "/federated-aggregator answered 404" in refused(answer, 502)


def test_order_without_funds_costs_nothing(buyer: Callable[..., FlaskClient]) -> None:
    assert "has too little ether to send 5 ether" in refused(order_in_vain(buyer()), 402)


def test_order_without_a_chain_costs_nothing(buyer: Callable[..., FlaskClient]) -> None:
    client = buyer(chain_url=NOBODY)
    assert "the chain does not answer" in refused(order_in_vain(client), 503)
    assert "the chain does not answer" in refused(client.get("/contract"), 503)
    assert client.get("/helpers/ping").status_code == 200


def test_order_without_a_contract_costs_nothing(buyer: Callable[..., FlaskClient], tmp_path: Path) -> None:
    address = "0x" + "12" * 20
    client = buyer(contract_address=address)
    refused(order_in_vain(client), 409)  # the aggregator has another one
    assert f"there is no marketplace contract of this version at {address}" in refused(client.get("/contract"), 503)


# Taking part

SOON = {"join_seconds": 9}


def test_owner_is_told_what_is_missing_and_nothing_is_lost(town: Town, http: requests.Session) -> None:
    """One owner's way through an order that nobody fits at first, and that too few join in the end."""
    body = flow.order_for(town.buyer_id, ("height", "age"), terms=SOON)
    wanting = town.buyer.order(body)
    steep = town.order(hyper_parameters={"learning_rate": 1000}, terms=SOON)
    member = town.members["owner-1"]
    owner, accept = member.owner, f"{member.owner.url}/trainings/{{}}/accept"

    # A step that diverges: no dataset of this owner helps, and the highest possible rate is said.
    owner.wait_for_status(steep, "READY")
    detail = refused(http.put(accept.format(steep)), 409)
    assert "a learning rate of 1000 diverges on these rows: it has to be below" in detail
    (limit,) = re.findall(r"(\d+\.\d+)", detail)
    table = TableStatistics.accumulate([diabetes.split(5, ROWS)[0]], diabetes.COLUMNS)
    with pytest.raises(DivergingStep) as refusal:
        require_stable(table.select(diabetes.FEATURES, "target", 512), 1000, 0)
    assert float(limit) == pytest.approx(refusal.value.limit, rel=1e-4)
    assert owner.training(steep)["status"] == "READY"

    # No dataset with the column, then one with values out of range, then one that fits but for the case of a name.
    waiting = owner.wait_for_status(wanting, "WAITING")
    assert "column 'height' is missing" in waiting["reason"]
    detail = refused(http.put(accept.format(wanting)), 409)
    assert f"training {wanting} is WAITING" in detail and "column 'height' is missing" in detail
    centimetres = owner.upload_dataset(b"age,height,target\n0.1,180,100\n0.2,160,200\n", "metres.csv")
    assert "metres.csv: column 'height' goes from 160 to 180, outside [-2, 2]" in owner.training(wanting)["reason"]
    refused(http.put(accept.format(wanting)), 409)
    dataset = owner.upload_dataset(b"age,HEIGHT,target\n0.1,1.8,100\n0.2,1.6,200\n0.1,1.7,150\n", "fits.csv")
    assert owner.training(wanting)["status"] == "READY"
    accepted = http.put(accept.format(wanting))
    assert accepted.status_code == 200, accepted.text
    assert (accepted.json()["status"], accepted.json()["dataset_id"]) == ("INITIATED", dataset["id"])

    # Twice, and the data meanwhile.
    assert "cannot be accepted (again)" in refused(http.put(accept.format(wanting)), 409)
    answer = http.delete(f"{owner.url}/datasets/{dataset['id']}")
    assert "is the one that a training was accepted with" in refused(answer, 409)

    # One owner of at least three: refunded.
    for training_id in (wanting, steep):
        with pytest.raises(flow.TrainingFailed, match="joining ended without enough data owners; the payment is refu"):
            town.buyer.wait_finished(training_id, timeout=60)
        model = town.buyer.model(training_id)
        assert (model["model"]["status"], model["metrics"]["spent"]) == ("CANCELLED", "0")
        with pytest.raises(flow.TrainingFailed, match="the order was cancelled"):
            owner.wait_for_status(training_id, "FINISHED")
        assert "cannot be accepted (again)" in refused(http.put(accept.format(training_id)), 409)
    assert town.buyer.contract()["credit_wei"] == "0"
    owner.call("DELETE", f"/datasets/{centimetres['id']}")
