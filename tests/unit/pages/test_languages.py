"""Every text is in the catalogue in every language, and readers get the language that they ask for."""

from __future__ import annotations

import re
import string
from pathlib import Path

import pytest

import commons.pages
import data_owner
import model_buyer
from commons.pages.languages import LANGUAGES, Language, load
from model_buyer.pages import HYPER_PARAMETERS, ORDER, TERMS
from model_buyer.storage import Status
from tests.unit.pages.buyer import Buyer

CATALOGUE = load()
TEMPLATES = [
    path
    for package in (commons.pages, model_buyer, data_owner)
    for path in (Path(package.__path__[0]) / "templates").glob("*.html")
]


@pytest.mark.parametrize("key", CATALOGUE)
def test_every_text_is_in_every_language_with_the_same_places(key: str) -> None:
    texts = CATALOGUE[key]
    assert set(texts) == set(LANGUAGES)
    assert all(text.strip() == text and text for text in texts.values())
    places = [{name for _, name, _, _ in string.Formatter().parse(text) if name} for text in texts.values()]
    assert all(each == places[0] for each in places)


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: f"{path.parts[-3]}-{path.name}")
def test_templates_name_texts_that_exist_and_hold_none_themselves(template: Path) -> None:
    source = template.read_text()
    for key in re.findall(r"""\bt\(\s*["']([a-z_]+\.\w+)["']\s*[,)]""", source):
        assert key in CATALOGUE
    attributes = r"\{% set \w+ %\}.*?\{% endset %\}"
    visible = re.sub(attributes + r"|\{#.*?#\}|\{%.*?%\}|\{\{.*?\}\}|<[^>]*>", " ", source, flags=re.DOTALL)
    words = set(re.findall(r"[A-Za-z]{2,}", visible)) - {"DeltaML"}
    assert not words


def test_every_state_and_every_field_of_an_order_is_named() -> None:
    shown = set(Status) - {Status.PAYING}  # to users it is INITIATED
    assert {f"state.{status}" for status in shown} | {f"state.{status}_means" for status in shown} <= set(CATALOGUE)
    fields = (*ORDER, *HYPER_PARAMETERS, *TERMS)
    assert {f"order.{name.replace('.', '_')}" for name in fields} <= set(CATALOGUE)


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
    assert spanish.percent(0.125) == "12,5\N{NO-BREAK SPACE}%"
