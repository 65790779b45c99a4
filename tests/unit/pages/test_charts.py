"""Charts that the server draws: lengths are parts of the whole, and every number is a text, too."""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.etree import ElementTree

from jinja2 import Environment, FileSystemLoader

from commons.pages import site

MACROS = Environment(
    loader=FileSystemLoader(site.STATIC.parent / "templates"), autoescape=True, trim_blocks=True, lstrip_blocks=True
)


def bars(*rows: tuple[str, float | None, str]) -> list[tuple[str, float, float]]:
    """Return kind, start and length of every bar, in parts of a hundred."""
    found = drawn(rows).iter("rect")
    return [
        (each.get("class", ""), float(each.get("x", "")[:-1]), float(each.get("width", "")[:-1]))
        for each in found
        if each.get("class") != "track"
    ]


def drawn(rows: Sequence[tuple[str, float | None, str]]) -> ElementTree.Element:
    return ElementTree.fromstring(str(MACROS.get_template("charts.html").module.bars("id", "title", rows)))  # type: ignore[attr-defined]


def test_the_largest_value_is_as_wide_as_the_chart() -> None:
    assert bars(("a", 3, "3"), ("b", 1.5, "1.5")) == [("gain", 0, 100), ("gain", 0, 50)]


def test_values_below_zero_go_to_the_left_of_where_the_others_begin() -> None:
    assert bars(("a", 3, "3"), ("b", -1, "-1")) == [("gain", 25, 75), ("loss", 0, 25)]
    assert bars(("a", -2, "-2"), ("b", -1, "-1")) == [("loss", 0, 100), ("loss", 50, 50)]


def test_nothing_is_drawn_of_what_is_zero_or_unknown() -> None:
    assert bars(("a", 0, "0"), ("b", None, "–")) == []
    assert bars() == []


def test_every_number_is_read_out_with_whose_it_is() -> None:
    account = "0x" + "ab" * 20
    chart = drawn([(account, 0.25, "25 %"), ("<you>", None, "–")])
    groups = chart.findall(".//g")
    assert [group.get("aria-label") for group in groups] == [f"{account}: 25 %", "<you>: –"]
    assert re.sub(r"\s", "", "".join(groups[0].itertext())) == f"0xabab…abab{account}25%"
