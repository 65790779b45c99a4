"""Every text is in the catalogue in every language, and readers get the language that they ask for."""

from __future__ import annotations

import re
import string
from html import unescape
from pathlib import Path

import pytest
from markupsafe import escape

import commons.pages
import data_owner
import federated_aggregator
import model_buyer
from commons.chain.artefact import load_artefact
from commons.chain.training import Outcome, Role
from commons.chain.training import Status as ChainStatus
from commons.pages.languages import LANGUAGES, Language, Text, load
from model_buyer.pages import HYPER_PARAMETERS, ORDER, TERMS
from model_buyer.storage import Status
from model_buyer.verification import CHECKS, Finding
from tests.unit.pages.buyer import Buyer

CATALOGUE = load()
TEMPLATES = [
    path
    for package in (commons.pages, data_owner, federated_aggregator, model_buyer)
    for path in (Path(package.__path__[0]) / "templates").glob("*.html")
]


def forms_of(text: Text) -> list[str]:
    return [text] if isinstance(text, str) else list(text.values())


def places_of(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


@pytest.mark.parametrize("key", CATALOGUE)
def test_every_text_is_in_every_language_with_the_same_places(key: str) -> None:
    texts = CATALOGUE[key]
    assert set(texts) == set(LANGUAGES)
    sentences = [text for forms in texts.values() for text in forms_of(forms)]
    assert all(text.strip() == text and text for text in sentences)
    # Of one thing, its number may be left out.
    assert len({frozenset(places_of(text) - {"count"}) for text in sentences}) == 1
    assert len({"count" in places_of(forms_of(forms)[-1]) for forms in texts.values()}) == 1
    for forms in texts.values():
        assert isinstance(forms, str) or (list(forms) == ["one", "other"] and "count" in places_of(forms["other"]))


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: f"{path.parts[-3]}-{path.name}")
def test_templates_name_texts_that_exist_and_hold_none_themselves(template: Path) -> None:
    source = template.read_text()
    for key in re.findall(r"""\bt\(\s*["']([a-z_]+\.\w+)["']\s*[,)]""", source):
        assert key in CATALOGUE
    attributes = r"\{% set \w+ %\}.*?\{% endset %\}"
    visible = re.sub(attributes + r"|\{#.*?#\}|\{%.*?%\}|\{\{.*?\}\}|<[^>]*>", " ", source, flags=re.DOTALL)
    words = set(re.findall(r"[A-Za-z]{2,}", visible)) - {"DeltaML"}
    assert not words
    assert not re.search(r"""lang=["'][a-z]""", source)  # what may be in English is marked where it is said


def test_every_state_and_every_field_of_an_order_is_named() -> None:
    shown = set(Status) - {Status.PAYING}  # to users it is INITIATED
    assert {f"state.{status}" for status in shown} | {f"state.{status}_means" for status in shown} <= set(CATALOGUE)
    fields = (*ORDER, *HYPER_PARAMETERS, *TERMS)
    assert {f"order.{name.replace('.', '_')}" for name in fields} <= set(CATALOGUE)


def test_everything_on_record_and_everything_verified_is_named() -> None:
    events = {f"record.{entry['name']}" for entry in load_artefact()["abi"] if entry["type"] == "event"}
    of_accounts = {"record.RoleRegistered", "record.CreditWithdrawn"}
    named = {f"record.outcome_{outcome.name}" for outcome in Outcome} | {f"check.{finding}" for finding in Finding}
    named |= {f"status.{status.name}" for status in ChainStatus} | {f"account.role_{role.name}" for role in Role}
    assert events - of_accounts | named <= set(CATALOGUE)
    assert {f"check.{name}{end}" for name in CHECKS for end in ("", "_means")} <= set(CATALOGUE)


def test_browser_language_counts_until_another_one_is_chosen(newcomer: Buyer) -> None:
    assert 'lang="en"' in newcomer.get("/sign-up", **{"Accept-Language": "de"}).text.partition("<head>")[0]
    assert newcomer.get("/sign-up", **{"Accept-Language": "es-AR,es;q=0.9"}).text.count('<html lang="es">') == 1
    assert "Create an account" in newcomer.get("/sign-up?language=en", **{"Accept-Language": "es"}).text
    assert "Create an account" in newcomer.get("/sign-up", **{"Accept-Language": "es"}).text
    assert "Crear una cuenta" in newcomer.get("/sign-up?language=es").text
    assert "Crear una cuenta" in newcomer.get("/sign-up?language=tlh").text


def test_numbers_are_written_as_the_language_does() -> None:
    english, spanish = Language("en", CATALOGUE), Language("es", CATALOGUE)
    assert (english.number(1234.5678), spanish.number(0.5), english.number(None)) == ("1234.57", "0,5", "–")
    assert english.ether("1") == "0.000000000000000001\N{NO-BREAK SPACE}ETH"
    assert spanish.ether(12 * 10**17) == "1,2\N{NO-BREAK SPACE}ETH"
    assert english.ether(20 * 10**18) == "20\N{NO-BREAK SPACE}ETH"
    assert english.short_ether(4469433925085616451) == "4.469433\N{NO-BREAK SPACE}ETH"
    assert spanish.short_ether(1) == "<\N{NO-BREAK SPACE}0,000001\N{NO-BREAK SPACE}ETH"
    assert (english.short_ether(0), english.short_ether("5" + "0" * 18)) == (
        "0\N{NO-BREAK SPACE}ETH",
        "5\N{NO-BREAK SPACE}ETH",
    )
    assert spanish.percent(0.125) == "12,5\N{NO-BREAK SPACE}%"


def test_one_thing_is_said_otherwise_than_several() -> None:
    english, spanish = Language("en", CATALOGUE), Language("es", CATALOGUE)
    assert english("requests.one", target="y", count=1) == "Predict y from one column"
    assert spanish("requests.one", target="y", count=1) == "Predecir y a partir de una columna"
    assert spanish("requests.one", target="y", count=2) == "Predecir y a partir de 2 columnas"
    assert spanish("requests.one", target="y", count=0) == "Predecir y a partir de 0 columnas"


def links(html: str) -> list[str]:
    return [unescape(link) for link in re.findall(r'<a href="([^"]*)" lang="', html)]


def test_the_other_language_is_of_the_same_page_with_the_same_query(buyer: Buyer) -> None:
    assert links(buyer.get("/?offset=20").text) == ["/?offset=20&language=en", "/?offset=20&language=es"]
    assert links(buyer.get("/?language=es&offset=20").text)[0] == "/?language=en&offset=20"
    assert links(buyer.get("/nowhere?a=b").text)[1] == "/nowhere?a=b&language=es"
    model = buyer.model()
    refused = buyer.post(f"/training/{model.id}/predict", {"rows.0.0": "x"})
    assert links(refused.text)[1] == f"/training/{model.id}?language=es"
    assert links(buyer.post("/order", {}).text)[1] == "/order?language=es"
    assert links(buyer.post("/nowhere", {}).text)[1] == "/?language=es"


def test_the_other_language_does_not_lose_the_page_that_logging_in_leads_to(buyer: Buyer) -> None:
    buyer.post("/logout")
    assert links(buyer.get("/login?next=/?offset%3D20").text)[1] == "/login?next=%2F%3Foffset%3D20&language=es"
    sent = {"email": "ada@example.org", "password": "wrong", "next": "/?offset=20"}
    assert links(buyer.post("/login", sent).text)[1] == "/login?next=%2F%3Foffset%3D20&language=es"


@pytest.mark.parametrize("path", ["//evil.example", "/%5Cevil.example", "///evil.example/x"])
def test_the_other_language_is_never_that_of_another_site(buyer: Buyer, path: str) -> None:
    for link in links(buyer.get(path).text):
        assert re.match(r"/(?![/\\])", link), link  # browsers read "//host" and "/\\host" as hosts


def test_the_language_that_was_chosen_stays_when_a_form_is_refused_and_in_the_event_stream(buyer: Buyer) -> None:
    buyer.get("/?language=es")
    assert '<html lang="es">' in buyer.post("/order", {}).text
    model = buyer.model()
    assert "Terminado" in buyer.get(f"/training/{model.id}/events").text
    buyer.get("/?language=en")
    assert "Finished" in buyer.get(f"/training/{model.id}/events").text


def test_the_event_stream_is_in_the_language_that_the_browser_asks_for(buyer: Buyer) -> None:
    model = buyer.model(Status.FAILED, reason="the training failed; the payment is refunded")
    events = f"/training/{model.id}/events"
    assert "el entrenamiento falló; el pago se devuelve" in buyer.get(events, **{"Accept-Language": "es-AR"}).text
    assert "the training failed; the payment is refunded" in buyer.get(events, **{"Accept-Language": "en"}).text


@pytest.mark.parametrize("text", ["1,5", "1.000,5", "1 000", "1'5"])
def test_a_number_with_a_comma_is_refused_and_never_read_as_another(buyer: Buyer, text: str) -> None:
    model = buyer.model()
    sent = {"rows.0.0": text, "rows.0.1": "1"}
    answer = buyer.post(f"/training/{model.id}/predict", sent, **{"Accept-Language": "es"})
    assert answer.status_code == 422 and "con los decimales después de un punto" in answer.text
    assert f'value="{escape(text)}"' in answer.text
    sent = {"payments_requirements.pay_for_model.value": text, "hyper_parameters.learning_rate": text}
    answer = buyer.post("/order", sent, **{"Accept-Language": "es"})
    for name in sent:
        reason = re.search(f'id="{re.escape(name)}-error">([^<]*)<', answer.text)
        assert reason and "con los decimales después de un punto" in reason[1]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"),
        (0, "0 ms"),
        (-3, "0 ms"),
        (0.4567, "457 ms"),
        (12.34, "12.3 s"),
        (60, "1 min 0 s"),
        (3599, "59 min 59 s"),
        (3 * 3600 + 5 * 60, "3 h 5 min"),
        (50 * 3600, "2 d 2 h"),
    ],
)
def test_durations_are_written_in_their_two_largest_units(seconds: float | None, text: str) -> None:
    assert Language("en", CATALOGUE).duration(seconds).replace("\N{NO-BREAK SPACE}", " ") == text


def test_ages_are_in_seconds_and_volumes_in_steps_of_a_thousand() -> None:
    english, spanish = Language("en", CATALOGUE), Language("es", CATALOGUE)
    ages = [english.age(seconds) for seconds in (-0.1, 0.2, 59.2, 61)]
    assert ages == [text.replace(" ", "\N{NO-BREAK SPACE}") for text in ("0 s", "0 s", "59 s", "1 min 1 s")]
    volumes = [spanish.volume(size) for size in (999, 1000, 2_500_000, 7 * 10**15)]
    assert volumes == [text.replace(" ", "\N{NO-BREAK SPACE}") for text in ("999 B", "1,0 kB", "2,5 MB", "7000,0 TB")]
