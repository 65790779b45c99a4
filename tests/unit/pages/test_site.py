"""Pages load nothing from elsewhere, and errors are pages for who reads pages."""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import uuid
from html.parser import HTMLParser

import pytest

from commons.pages.site import STATIC
from commons.protocol.messages import DataRequirements, Features, Target
from model_buyer.storage import Status
from tests.unit.pages.buyer import ORIGIN, Buyer

ROW = re.compile(r"\| (\S+) \| .* \| ([0-9a-f]{64}) \|")


def test_vendored_files_are_those_that_are_written_down() -> None:
    folder = STATIC / "vendored"
    written = dict(match.groups() for match in ROW.finditer((folder / "README.md").read_text()))
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.min.*")}
    assert found == written


class Elements(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def every_page(buyer: Buyer) -> list[str]:
    model = buyer.model(Status.FINISHED)
    running = buyer.model(Status.IN_PROGRESS)
    prediction = buyer.post(f"/training/{model.id}/predict", {"rows.0.0": "1", "rows.0.1": "2"}).headers["Location"]
    pages = ["/", "/order", f"/training/{model.id}", f"/training/{running.id}", prediction, "/login", "/nowhere"]
    return [*pages, "/models"]


def test_pages_bring_the_strict_policy_and_nothing_that_it_would_block(buyer: Buyer) -> None:
    for path in every_page(buyer):
        answer = buyer.get(path)
        assert answer.mimetype == "text/html", path
        policy = answer.headers["Content-Security-Policy"]
        assert policy == (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
            " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
        )
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "same-origin"
        for tag, attributes in Elements(answer.text).found:
            assert tag != "style" and "style" not in attributes
            assert not any(name.startswith("on") for name in attributes)
            assert tag != "script" or (attributes.get("src") or "").startswith("/static/")
            if tag == "link":
                assert (attributes["href"] or "").startswith("/static/")


HOSTILE = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>{{ 1234567 * 7654321 }}"


def test_what_others_write_is_text(buyer: Buyer) -> None:
    requirements = DataRequirements(
        features=Features(list=(HOSTILE, "bmi"), range=(-5, 5)), target=Target(name=f"{HOSTILE} y", range=(-1, 1))
    )
    made = buyer.model(Status.FINISHED)
    order = made.parsed_order.model_copy(update={"data_requirements": requirements}).canonical()
    finished = buyer.model(Status.FINISHED, order=order, name=HOSTILE, reason=HOSTILE)
    running = buyer.model(Status.IN_PROGRESS, order=order, name=HOSTILE, reason=HOSTILE)
    table = {"file": (io.BytesIO(b'"<script>alert(1)</script>",bmi\n0,0\n'), "<img src=x onerror=alert(1)>.csv")}
    shown = [
        *(buyer.get(path).text for path in ("/", f"/training/{finished.id}", f"/training/{running.id}")),
        buyer.get(f"/training/{finished.id}?language=es").text,
        buyer.post(f"/training/{finished.id}/predict", {"rows.0.0": HOSTILE, "rows.0.1": "2"}).text,
        buyer.post(f"/training/{finished.id}/predict-file", table).text,
        buyer.post("/login", {"email": HOSTILE, "password": HOSTILE, "next": f"/{HOSTILE}"}).text,
        buyer.post("/logout", Origin=f"http://{HOSTILE}").text,
        buyer.get("/models", Authorization=f"Bearer {HOSTILE}").text,
    ]
    for html in shown:
        assert "<script>" not in html and "<img" not in html and "9449772114007" not in html
        assert not any(name.startswith("on") for _, attributes in Elements(html).found for name in attributes)
    assert sum(html.count("&lt;script&gt;") for html in shown) > 10


def test_pages_have_landmarks_one_heading_and_labelled_inputs(buyer: Buyer) -> None:
    for path in every_page(buyer):
        elements = Elements(buyer.get(path).text).found
        tags = [tag for tag, _ in elements]
        assert [tags.count(tag) for tag in ("header", "main", "footer", "h1")] == [1, 1, 1, 1], path
        labelled = {attributes["for"] for tag, attributes in elements if tag == "label"}
        ids = [attributes["id"] for _, attributes in elements if "id" in attributes]
        assert len(ids) == len(set(ids))
        for tag, attributes in elements:
            if tag in ("input", "select", "textarea") and attributes.get("type") != "hidden":
                assert attributes["id"] in labelled
            for described in (attributes.get("aria-describedby") or "").split():
                assert described in ids


def test_the_largest_page_and_its_files_are_below_200_kilobytes(buyer: Buyer) -> None:
    answer = buyer.get(f"/training/{buyer.model(Status.IN_PROGRESS).id}")
    files = re.findall(r'(?:src|href)="(/static/[^"]+)"', answer.text)
    assert len(files) == 9
    assert len(answer.data) + sum(len(buyer.get(file).data) for file in files) < 200_000
    packed = {"Accept-Encoding": "gzip, deflate, br"}
    assert len(answer.data) + sum(len(buyer.get(file, **packed).data) for file in files) < 80_000


def test_files_are_packed_for_who_can_unpack_them(buyer: Buyer) -> None:
    path = "/static/vendored/htmx.min.js"
    plain, packed = buyer.get(path), buyer.get(path, **{"Accept-Encoding": "gzip, deflate"})
    assert "Content-Encoding" not in plain.headers and packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.data) == plain.data == (STATIC / "vendored/htmx.min.js").read_bytes()
    assert packed.content_length == len(packed.data)
    assert plain.headers["Vary"] == packed.headers["Vary"] == "Accept-Encoding"
    assert "Content-Encoding" not in buyer.get(path, **{"Accept-Encoding": "gzip;q=0"}).headers
    assert "Content-Encoding" not in buyer.get("/", **{"Accept-Encoding": "gzip"}).headers


def test_files_are_kept_by_browsers_as_long_as_they_are_the_same(buyer: Buyer) -> None:
    [file] = set(re.findall(r'"(/static/pages\.css[^"]+)"', buyer.get("/").text))
    assert "immutable" in buyer.get(file).headers["Cache-Control"]
    assert "immutable" not in (buyer.get("/static/pages.css").headers["Cache-Control"] or "")
    unchanged = buyer.get(file, **{"If-None-Match": buyer.get(file).headers["ETag"]})
    assert unchanged.status_code == 304 and "immutable" in unchanged.headers["Cache-Control"]
    assert buyer.get("/").headers["Cache-Control"] == "no-store"


def test_what_only_one_user_may_see_is_kept_nowhere(buyer: Buyer) -> None:
    model = buyer.model(Status.FINISHED)
    for path in ("/", f"/training/{model.id}", f"/training/{model.id}/download", f"/training/{model.id}/events"):
        headers = buyer.get(path).headers
        assert headers["Cache-Control"] == "no-store" and headers["X-Content-Type-Options"] == "nosniff", path


@pytest.mark.parametrize("accept", ["application/json", "*/*", "application/problem+json, text/html;q=0.5"])
def test_errors_of_the_api_stay_problem_documents(buyer: Buyer, accept: str) -> None:
    for path in ("/models", "/nowhere", "/models/7"):
        answer = buyer.get(path, Accept=accept)
        assert answer.mimetype == "application/problem+json" and answer.get_json()["detail"]


def test_errors_of_pages_say_what_to_do_in_the_readers_language(buyer: Buyer) -> None:
    answer = buyer.get(f"/training/{uuid.uuid4()}?language=es")
    assert answer.status_code == 404
    assert "Esta página no existe" in answer.text and "Buscala desde la página de inicio" in answer.text
    assert "<p>no existe el modelo" in answer.text


def test_unexpected_errors_are_pages_too(buyer: Buyer, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> str:
        raise RuntimeError("secret")

    monkeypatch.setitem(buyer.app.view_functions, "pages.trainings", broken)
    answer = buyer.get("/")
    assert answer.status_code == 500 and "It is not your fault" in answer.text and "secret" not in answer.text


def test_who_is_logged_out_meanwhile_is_sent_to_log_in_by_scripts_too(buyer: Buyer) -> None:
    model = buyer.model(Status.IN_PROGRESS)
    buyer.post("/logout")
    answer = buyer.get(f"/training/{model.id}/events", **{"HX-Request": "true"})
    assert answer.status_code == 401
    assert answer.headers["HX-Redirect"].startswith("/login?next=/training/")
    page = {"HX-Request": "true", "HX-Current-URL": f"{ORIGIN}/training/{model.id}?language=es"}
    answer = buyer.get(f"/training/{model.id}/events", **page)
    assert answer.headers["HX-Redirect"] == f"/login?next=/training/{model.id}?language%3Des"
