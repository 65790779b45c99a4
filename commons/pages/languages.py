"""The languages of pages: every text in one catalogue, ``messages.toml``, and the one that a reader wants."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_DOWN, Decimal
from itertools import pairwise
from pathlib import Path

from flask import request
from markupsafe import Markup, escape

from commons.pages import refusals

LANGUAGES: Mapping[str, str] = {"en": "English", "es": "Español"}
"""What each language calls itself. The first is for who asks for none of them."""
DURATIONS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
VOLUMES = ("B", "kB", "MB", "GB", "TB")
SHORTEST = Decimal("0.000001")
COOKIE = "deltaml_language"
CATALOGUE = Path(__file__).parent / "messages.toml"
DECIMAL: Mapping[str, str] = {"en": ".", "es": ","}
"""What stands before the decimals."""
SPOKEN = "en"
"""What the code speaks."""

Text = str | Mapping[str, str]
"""One sentence; or one for a single thing and an ``other`` for none or several, by the value called ``count``."""
Catalogue = Mapping[str, Mapping[str, Text]]


def load(path: Path = CATALOGUE) -> Catalogue:
    """Return the texts by key and language: ``{"login.title": {"en": "Log in", "es": …}, …}``."""
    sections = tomllib.loads(path.read_text(encoding="utf-8"))
    return {f"{section}.{key}": texts for section, keys in sections.items() for key, texts in keys.items()}


@dataclass(frozen=True)
class Language:
    """How to say something to one reader.

    Parameters
    ----------
    code : str
        Of the language (BCP 47).
    catalogue : mapping
        As :func:`load` returns it.
    """

    code: str
    catalogue: Catalogue

    def __call__(self, key: str, **values: object) -> str:
        """Return a text, with `values` in its places; KeyError if there is none of this key."""
        text = self.catalogue[key][self.code]
        if not isinstance(text, str):
            text = text["one" if values["count"] == 1 else "other"]
        return text.format(**values)

    def said(self, text: str) -> Markup:
        """Return what a service says in English, such as a refusal, in this language.

        What has no translation stays as it is, marked as English, so that it is read out as such.
        """
        if self.code == SPOKEN:
            return escape(text)
        parts = refusals.load(self.code, DECIMAL[self.code]).say(text)
        marked = Markup('<span lang="{}">{}</span>')
        return Markup("").join(escape(p.text) if p.known else marked.format(SPOKEN, p.text) for p in parts)

    def has(self, key: str) -> bool:
        """Return whether there is a text of this key."""
        return key in self.catalogue

    def number(self, value: float | Decimal | None, digits: int = 6) -> str:
        """Write a number with so many significant digits, or a dash for None."""
        if value is None:
            return "–"
        return self._decimals(f"{value:.{digits}g}" if digits else f"{value}")

    def percent(self, value: float | None) -> str:
        """Write a share of one in percent."""
        return "–" if value is None else self._decimals(f"{100 * value:.1f}") + "\N{NO-BREAK SPACE}%"

    def ether(self, wei: str | int) -> str:
        """Write an amount in wei as ether, exactly."""
        amount = Decimal(wei).scaleb(-18).normalize()
        return self._decimals(f"{amount:f}") + "\N{NO-BREAK SPACE}ETH"

    def short_ether(self, wei: str | int) -> str:
        """Write an amount in wei as ether, rounded down to six decimals, where the exact one stands elsewhere."""
        amount = Decimal(wei).scaleb(-18)
        short = amount.quantize(SHORTEST, ROUND_DOWN)
        if amount and not short:
            return f"<\N{NO-BREAK SPACE}{self._decimals(str(SHORTEST))}\N{NO-BREAK SPACE}ETH"
        return self.ether(int(short.scaleb(18)))

    def duration(self, seconds: float | None) -> str:
        """Write a time that something took, in its two largest units, or a dash for None."""
        if seconds is None:
            return "–"
        if seconds < 1:
            return f"{1000 * max(seconds, 0.0):.0f}\N{NO-BREAK SPACE}ms"
        if seconds < 60:
            return self._decimals(f"{seconds:.1f}") + "\N{NO-BREAK SPACE}s"
        large, small = next(pair for pair in pairwise(DURATIONS) if seconds >= pair[0][0])
        units = (seconds // large[0], large[1]), (seconds % large[0] // small[0], small[1])
        return "\N{NO-BREAK SPACE}".join(f"{number:.0f}\N{NO-BREAK SPACE}{unit}" for number, unit in units)

    def age(self, seconds: float) -> str:
        """Write how long ago something was, no finer than in seconds."""
        return self.duration(seconds) if seconds >= 60 else f"{max(seconds, 0.0):.0f}\N{NO-BREAK SPACE}s"

    def volume(self, size: int) -> str:
        """Write a number of bytes, in steps of a thousand."""
        steps = min((len(str(size)) - 1) // 3, len(VOLUMES) - 1)
        number = f"{size / 1000**steps:.1f}" if steps else str(size)
        return self._decimals(number) + "\N{NO-BREAK SPACE}" + VOLUMES[steps]

    def moment(self, value: datetime) -> str:
        """Write a time in UTC."""
        return f"{value:%Y-%m-%d %H:%M} UTC"

    def period(self, seconds: int) -> str:
        """Write a number of seconds in the largest unit that leaves no rest."""
        for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
            if seconds and seconds % size == 0:
                return f"{seconds // size}\N{NO-BREAK SPACE}{unit}"
        return f"{seconds}\N{NO-BREAK SPACE}s"

    def _decimals(self, text: str) -> str:
        return text.replace(".", DECIMAL[self.code])


def wanted(catalogue: Catalogue) -> Language:
    """Return the language of the current request: that of its query, else of its cookie, else what the browser asks."""
    for asked in (request.args.get("language"), request.cookies.get(COOKIE)):
        if asked in LANGUAGES:
            return Language(str(asked), catalogue)
    first = next(iter(LANGUAGES))
    return Language(request.accept_languages.best_match(list(LANGUAGES), first) or first, catalogue)
