"""In Spanish nothing of English is seen: every page, and every ordinary way of failing, beside the same in English."""

from __future__ import annotations

import io
import re
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import TestResponse

from commons.pages.languages import LANGUAGES, load
from data_owner.storage import Status as Stage
from federated_aggregator.storage import Status as Stand
from model_buyer.pages import CANCELLED, REMOVED
from model_buyer.storage import Status
from tests.unit.pages.aggregator import Aggregator
from tests.unit.pages.buyer import Buyer
from tests.unit.pages.owner import Owner
from tests.unit.pages.test_model_buyer import FILLED, TRAINER
from tests.unit.pages.visitor import PASSWORD

WORD = re.compile(r"[^\W\d_]{2,}")
SAME = {texts["en"] for texts in load().values() if texts["en"] == texts["es"]} | set(LANGUAGES.values())
"""What is written alike in both languages: "Error"."""
VALUES = re.compile(
    r"https?://\S+|\S+@\S+|0x[0-9a-fA-F…]+|[0-9a-f]{8}-[0-9a-f-]{27}|\bUTC\b|\bETH\b|\b(age|bmi|bp|target|weight|tall|many)\b"
    r"|\b(progression|rows\.csv|Ada|Bob|DeltaML|scikit-learn|JSON|CSV|Parquet|MSE|ridge|gas|min|ms|MB|wei|ether|API)\b"
)
"""What is not said but quoted, or has the same name in both languages."""
ATTRIBUTES = ("aria-label", "title", "placeholder", "alt", "data-iteration", "data-mse")


class Texts(HTMLParser):
    """What is seen or read out of a page, and whether it is marked as English."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.english: list[str] = []
        self._open: list[tuple[str, str | None]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.found += [text for name in ATTRIBUTES if (text := given.get(name))]
        if tag not in ("meta", "link", "input", "br", "img", "rect", "line", "path"):
            self._open.append((tag, given.get("lang")))

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        tags = [tag for tag, _ in self._open]
        text = " ".join(data.split())
        if not text or "textarea" in tags or "code" in tags or "option" in tags and text.isidentifier():
            return
        lang = next((lang for _, lang in reversed(self._open) if lang), None)
        (self.english if lang == "en" and text not in LANGUAGES.values() else self.found).append(text)


def untranslated(spanish: str, english: str) -> list[str]:
    """Return what a Spanish page says in English: it is marked so, or the English page says the same."""
    here, there = Texts(spanish), set(Texts(english).found)
    alike = [text for text in here.found if text in there and text not in SAME and WORD.search(VALUES.sub("", text))]
    return here.english + alike


@dataclass(frozen=True)
class Visitor:
    """Somebody who asks for everything twice, once in each language."""

    service: Buyer | Owner | Aggregator

    def get(self, path: str) -> list[str]:
        spanish, english = (self.service.get(path, **{"Accept-Language": code}) for code in ("es-AR,es", "en"))
        return self._compared(spanish, english)

    def part(self, path: str) -> list[str]:
        """Ask for part of a page."""
        spanish, english = (self.service.get(path, **{"Accept-Language": code}) for code in ("es-AR,es", "en"))
        return untranslated(spanish.text, english.text)

    def post(self, path: str, make: Callable[[], dict[str, Any]] = dict, **headers: str) -> list[str]:
        assert not isinstance(self.service, Aggregator)  # it has no forms of its own
        spanish, english = (
            self.service.post(path, make(), **{"Accept-Language": code}, **headers) for code in ("es-AR,es", "en")
        )
        assert spanish.status_code >= 400
        return self._compared(spanish, english)

    @staticmethod
    def _compared(spanish: TestResponse, english: TestResponse) -> list[str]:
        assert spanish.status_code == english.status_code
        assert '<html lang="es">' in spanish.text and '<html lang="en">' in english.text
        return untranslated(spanish.text, english.text)


def test_english_on_a_spanish_page_would_be_found() -> None:
    english = "<p>Too many tries</p><p>7 rows</p>"
    assert untranslated("<p>Demasiados intentos</p><p>7 filas</p>", english) == []
    assert untranslated("<p>Too many tries</p><p>7 filas</p>", english) == ["Too many tries"]
    assert untranslated('<p>Hay: <span lang="en">no rows</span></p>', english) == ["no rows"]
    assert untranslated('<p aria-label="7 rows"></p>', english) == ["7 rows"]


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[Owner]:
    made = Owner(tmp_path / "owner")
    assert made.sign_up().status_code == 303
    yield made
    made.close()


def paths_of(service: Buyer | Owner | Aggregator) -> set[str]:
    """Return the paths of all pages: what is asked for by GET and is no file, stream or part of the API."""
    return {
        rule.rule
        for rule in service.app.url_map.iter_rules()
        if rule.endpoint.split(".")[0] in ("pages", "site", "account")
        and "GET" in (rule.methods or ())
        and not rule.rule.endswith(("/events", "/download"))
        and "filename" not in rule.rule
    }


def test_every_page_of_the_buyer_is_in_spanish(newcomer: Buyer) -> None:
    visitor = Visitor(newcomer)
    assert visitor.get("/sign-up") == []
    newcomer.sign_up()
    assert visitor.get("/") == []  # with a notice, and nothing ordered
    outcome = {
        "initial_mse": 2.0,
        "mse": 1.0,
        "iterations": 20,
        "trainers": [{"data_owner": TRAINER, "partial_MSE": 1.5, "contributions": 0.7}],
    }
    payments = {TRAINER: str(2 * 10**18), "0x" + "ab" * 20: str(10**18)}
    finished = newcomer.model(Status.FINISHED, outcome=outcome, payments=payments, spent=3 * 10**18)
    others = [newcomer.model(status) for status in Status]
    sent = {"rows.0.0": "1", "rows.0.1": "2"}
    prediction = newcomer.post(f"/training/{finished.id}/predict", sent).headers["Location"]
    seen = {
        "/": ["/", "/?offset=20"],
        "/order": ["/order"],
        "/login": ["/login"],
        "/account": ["/account"],
        "/training/<uuid:model_id>": [f"/training/{model.id}" for model in (finished, *others)],
        "/prediction": [f"/prediction?model_id={finished.id}", f"/prediction?model_id={others[0].id}"],
        "/training/<uuid:model_id>/end": [
            f"/training/{model.id}/end" for model in others if model.status in (*CANCELLED, *REMOVED)
        ],
        "/training/<uuid:model_id>/record": [f"/training/{finished.id}/record"],
        "/prediction/<uuid:prediction_id>": [prediction],
    }
    assert paths_of(newcomer) - {"/sign-up"} <= set(seen)
    for paths in seen.values():
        for path in paths:
            assert visitor.get(path) == [], path
    newcomer.post("/logout")
    assert visitor.get("/login") == []


def test_every_page_of_the_owner_is_in_spanish(owner: Owner) -> None:
    visitor = Visitor(owner)
    assert visitor.get("/") == []
    offered = owner.training()
    assert visitor.get("/") == []
    assert visitor.get(f"/training/{offered.id}/accept") == []
    dataset = owner.upload().headers["Location"]
    owner.upload(b"age,y\n9,0\n")
    trainings = [owner.training(status) for status in Stage if status != Stage.OFFERED]
    standardising = owner.training(standardise=True)
    few = owner.training(features=("age", "nothing"))
    trainings += [offered, standardising, few, owner.training(seen=None)]
    seen = {
        "/": ["/"],
        "/login": ["/login"],
        "/account": ["/account"],
        "/data": ["/data"],
        "/data/<uuid:dataset_id>": [dataset],
        "/training/<uuid:training_id>": [f"/training/{training.id}" for training in trainings],
        "/training/<uuid:training_id>/accept": [f"/training/{training.id}/accept" for training in trainings],
    }
    assert paths_of(owner) - {"/sign-up"} <= set(seen)
    for paths in seen.values():
        for path in paths:
            assert visitor.get(path) == [], path


def test_every_page_of_the_aggregator_is_in_spanish(tmp_path: Path) -> None:
    aggregator = Aggregator(tmp_path / "aggregator")
    visitor = Visitor(aggregator)
    assert visitor.get("/sign-up") == []
    aggregator.sign_up()
    assert visitor.get("/") == []
    ordered, running, failed = aggregator.order(), aggregator.running(4), aggregator.order()
    aggregator.storage.move(
        failed, Stand.FAILED, reason="TooFewAnswered: 2 trainers answered round 3: at least 3 are needed"
    )
    trainings = [f"/training/{training}" for training in (ordered, running, failed)]
    seen = {
        "/": ["/"],
        "/login": ["/login"],
        "/account": ["/account"],
        "/training/<uuid:training_id>": trainings,
    }
    assert {path for path in paths_of(aggregator) if not path.endswith("/now")} - {"/sign-up"} <= set(seen)
    for paths in seen.values():
        for path in paths:
            assert visitor.get(path) == [], path
    for path in ("", *trainings):
        assert visitor.part(f"{path}/now") == [], path
    aggregator.close()


REASONS = (
    "joining ended without enough data owners; the payment is refunded",
    "the training failed; the payment is refunded: Deviated: the model buyer 0xab deviated: InvalidProof: the products"
    " of 3 vectors were claimed, and a ciphertext holds another number",
    "the training's deadline passed; the payment is refunded: PeerUnavailable",
    "cancelled before any data owner accepted; the payment is refunded",
    "the aggregator asked to open sums of zero 0 that stay closed: its validators did not co-sign them: a signature has"
    " 65 bytes, of which the last is 27 or 28",
    "the model was not delivered by half of the review period: nothing came",
    "the reported result is not the one computed here: final MSE: reported 1, computed 2; contribution of 0xab:"
    " reported 3, computed 4",
    "account 0xab has too little ether to send 7 ether and pay for gas",
    "the chain does not answer (ConnectionError)",
)


def test_why_a_training_failed_is_said_in_spanish(buyer: Buyer) -> None:
    for reason in REASONS:
        model = buyer.model(Status.FAILED, reason=reason)
        assert Visitor(buyer).get(f"/training/{model.id}") == [], reason


WRONG = {
    "empty": {name: "" for name in FILLED},
    "words": {name: "many" for name in FILLED},
    "commas": {"data_requirements.features.range.0": "1,5", "payments_requirements.pay_for_model.value": "0,1"},
    "too large": {name: "1e99" for name in FILLED},
    "negative": {name: "-7" for name in FILLED},
    "bounds": {"data_requirements.features.range.0": "3"},
    "twice": {"data_requirements.features.list": "age, age"},
    "both": {"data_requirements.target.name": "age"},
    "minimum": {"participants.minimum": "9"},
    "reach": {"hyper_parameters.iterations": "10000", "hyper_parameters.local_steps": "1000"},
    "fractions": {"hyper_parameters.iterations": "1.5", "hyper_parameters.key_bits": "7"},
    "weighting": {"hyper_parameters.weighting": "alphabetical"},
    "long": {"name": "x" * 300, "data_requirements.features.list": ",".join(f"c{i}" for i in range(600))},
    "control": {"name": "\x07bell"},
    "target": {"data_requirements.target.range.0": "0", "data_requirements.target.range.1": "1e-300"},
    "wei": {"payments_requirements.pay_for_model.value": "0.0000000000000000001"},
    "no chain": {},
}


def test_what_is_wrong_with_an_order_is_said_in_spanish(buyer: Buyer) -> None:
    for name, changed in WRONG.items():
        assert Visitor(buyer).post("/order", partial(dict, {**FILLED, **changed})) == [], name


TABLES = {
    "column": b"age,weight\n0,0\n",
    "comma": b"age;bmi\n0;1,5\n",
    "word": b"age,bmi\n0,tall\n",
    "numbers": b"1,2\n3,4\n",
    "binary": b"PK\x03\x04\x00\x00\xff\xfe",
}


def attached(content: bytes, name: str = "rows.csv") -> Callable[[], dict[str, Any]]:
    return lambda: {"file": (io.BytesIO(content), name)}


def test_what_is_wrong_with_a_file_is_said_in_spanish(buyer: Buyer, owner: Owner) -> None:
    model = buyer.model()
    for name, content in TABLES.items():
        assert Visitor(buyer).post(f"/training/{model.id}/predict-file", attached(content)) == [], name
    assert Visitor(owner).post("/data", attached(b"age\n1\n")) == []


def test_a_file_without_a_proper_name_is_refused_in_spanish(buyer: Buyer, owner: Owner) -> None:
    model = buyer.model()
    for visitor, path in ((Visitor(buyer), f"/training/{model.id}/predict-file"), (Visitor(owner), "/data")):
        assert visitor.post(path) == []
        for name in ("", "a\x07.csv"):
            assert visitor.post(path, attached(b"age,bmi\n1\n", name)) == []


def test_a_row_that_cannot_be_predicted_is_refused_in_spanish(buyer: Buyer) -> None:
    model = buyer.model()
    for text in ("", "tall", "1,5", "1e99", "nan"):
        sent = partial(dict, {"rows.0.0": "1", "rows.0.1": text})
        assert Visitor(buyer).post(f"/training/{model.id}/predict", sent) == [], text


def test_what_cannot_be_had_is_refused_in_spanish(buyer: Buyer, owner: Owner) -> None:
    nobody = uuid.uuid4()
    running = buyer.model(Status.IN_PROGRESS)
    for path in (
        "/nowhere",
        f"/training/{nobody}",
        f"/training/{nobody}/download",
        f"/prediction/{nobody}",
        "/sign-up",
    ):
        assert Visitor(buyer).get(path) == [], path
    assert Visitor(buyer).get(f"/training/{running.id}/download") == []
    assert Visitor(buyer).get(f"/training/{running.id}/download?format=exe") == []
    assert Visitor(buyer).get("/training/7/predict") == []
    assert Visitor(buyer).post("/nowhere") == []
    assert Visitor(buyer).post(f"/training/{running.id}") == []  # no such method
    assert Visitor(buyer).post(f"/training/{running.id}/predict", lambda: {"rows.0.0": "1", "rows.0.1": "1"}) == []
    assert Visitor(buyer).post("/order", Origin="http://evil.example") == []
    assert Visitor(buyer).post("/order", lambda: {"name": "x" * 3_000_000}) == []  # too large
    assert Visitor(buyer).post("/account/withdraw") == []
    accepted, fitting = owner.training(Stage.FINISHED), owner.training()
    for path in (f"/training/{nobody}", f"/data/{nobody}"):
        assert Visitor(owner).get(path) == [], path
    assert Visitor(owner).post(f"/training/{accepted.id}/accept") == []
    assert Visitor(owner).post(f"/training/{fitting.id}/accept") == []  # no dataset
    owner.upload()
    assert Visitor(owner).post(f"/training/{fitting.id}/accept") == []  # no chain
    assert Visitor(owner).post("/register") == []
    assert Visitor(owner).post(f"/data/{nobody}/remove") == []


def test_who_may_not_is_told_so_in_spanish(buyer: Buyer, owner: Owner) -> None:
    training = owner.training()
    owner.become_viewer()
    assert Visitor(owner).get("/data") == [] and Visitor(owner).get(f"/training/{training.id}/accept") == []
    assert Visitor(owner).post("/data", attached(b"age\n1\n")) == []
    assert Visitor(owner).post(f"/training/{training.id}/accept") == []


SIGNING = {
    "empty": {"name": "", "email": "", "password": ""},
    "no address": {"name": "Ada", "email": "ada", "password": PASSWORD},
    "short": {"name": "Ada", "email": "ada@example.org", "password": "short"},
    "easy": {"name": "Ada", "email": "ada@example.org", "password": "aaaaaaaaaaaaaaaaaa"},
    "long": {"name": "x" * 300, "email": "x" * 300, "password": "x" * 3000},
}


def test_signing_up_is_refused_in_spanish(newcomer: Buyer) -> None:
    for name, sent in SIGNING.items():
        assert Visitor(newcomer).post("/sign-up", partial(dict, sent)) == [], name


def test_logging_in_is_refused_in_spanish(buyer: Buyer) -> None:
    buyer.post("/logout")
    wrong = {"email": "ada@example.org", "password": "wrong"}
    for _ in range(7):
        assert Visitor(buyer).post("/login", lambda: wrong) == []  # at last, too many
    assert Visitor(buyer).post("/login") == []
    assert buyer.post("/login", wrong).status_code == 429


def test_an_unexpected_error_is_told_in_spanish(buyer: Buyer, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> str:
        raise RuntimeError("secret")

    monkeypatch.setitem(buyer.app.view_functions, "pages.trainings", broken)
    assert Visitor(buyer).get("/") == []
