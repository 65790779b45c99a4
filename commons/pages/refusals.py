"""What the services say in English, in other languages: refusals, and why a training stands where it stands.

The code raises English sentences with values in them, which the API answers. A page finds each in a file of patterns,
``refusals.es.toml``, by what stands between its values, and says it in the reader's language with the same values.
"""

from __future__ import annotations

import re
import string
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

LONGEST = 4000
"""Characters of a text that is looked for: some texts come from peers."""
MOST_PARTS = 24
DEEPEST = 12
"""Sentences in places of sentences."""
JOINTS = re.compile(r"(; |: | / )")
"""What the code joins sentences by: to a cause, or in a list."""
DECIMALS = re.compile(r"-?\d+\.\d+(e[+-]?\d+)?")
QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")


@dataclass(frozen=True)
class Part:
    """A piece of a text.

    Parameters
    ----------
    text : str
        In the language, if it is known there, else as it was.
    known : bool
        Whether it was found, or has no words to translate.
    """

    text: str
    known: bool


@dataclass(frozen=True)
class Pattern:
    """A sentence with places for values, and its translation.

    Parameters
    ----------
    literals : tuple of str
        What stands before, between and behind the values.
    names : tuple of str
        What the places between them are called. What stands in a place with a name in capitals is said in the
        language itself; any other value stays as it is.
    translation : str
        The sentence with the same names.
    """

    literals: tuple[str, ...]
    names: tuple[str, ...]
    translation: str

    @classmethod
    def parse(cls, text: str, translation: str) -> Pattern:
        """Read a pattern such as ``there is no user {id}``."""
        literals, names = [""], []
        for literal, name, _, _ in string.Formatter().parse(text):
            literals[-1] += literal
            if name is not None:
                names.append(name)
                literals.append("")
        return cls(tuple(literals), tuple(names), translation)

    def match(self, text: str) -> dict[str, str] | None:
        """Return the values of a text that has this pattern, by name, or None.

        Each place takes as little as it can, which finds a match if there is one and never looks at a character twice.
        """
        first, *rest = self.literals
        if not rest:
            return {} if text == first else None
        *middle, last = rest
        at, end = len(first), len(text) - len(last)
        if end < at or not (text.startswith(first) and text.endswith(last)):
            return None
        found = []
        for literal in middle:
            place = text.find(literal, at, end)
            if place < 0:
                return None
            found.append(text[at:place])
            at = place + len(literal)
        found.append(text[at:end])
        values = dict(zip(self.names, found, strict=True))
        return values if all(name.isupper() or _is_value(value) for name, value in values.items()) else None


class Refusals:
    """The patterns of one language.

    Parameters
    ----------
    texts : mapping of str to str
        Translations by English pattern.
    decimal : str
        What stands between a number's integer and its decimals.
    """

    def __init__(self, texts: Mapping[str, str], decimal: str) -> None:
        patterns = [Pattern.parse(text, translation) for text, translation in texts.items()]
        # The one with the most words of its own says the most about what it matches.
        self._patterns = sorted(patterns, key=lambda pattern: sum(map(len, pattern.literals)), reverse=True)
        self._decimal = decimal

    def say(self, text: str) -> list[Part]:
        """Return a text in the language, in the parts that are known and those that are not."""
        return self._say(text, DEEPEST)

    def _say(self, text: str, depth: int) -> list[Part]:
        if len(text) > LONGEST or not depth:
            return [Part(text, known=False)]
        pieces = JOINTS.split(text, maxsplit=MOST_PARTS)  # sentences at even places, what joins them at odd ones
        parts: list[Part] = []
        found_any = False
        start = 0
        while start < len(pieces):
            stop, found = self._longest(pieces, start, depth)
            found_any = found_any or found is not None
            parts += [Part(self._number(pieces[start]), known=" " not in pieces[start])] if found is None else found
            parts += [Part(joint, known=True) for joint in pieces[stop : stop + 1]]
            start = stop + 1
        return parts if found_any or all(part.known for part in parts) else [Part(text, known=False)]

    def _longest(self, pieces: Sequence[str], start: int, depth: int) -> tuple[int, list[Part] | None]:
        for stop in range(len(pieces), start, -2):
            if (found := self._find("".join(pieces[start:stop]), depth)) is not None:
                return stop, found
        return start + 1, None

    def _find(self, text: str, depth: int) -> list[Part] | None:
        for pattern in self._patterns:
            values = pattern.match(text)
            if values is not None:
                return self._fill(pattern, values, depth - 1)
        return None

    def _fill(self, pattern: Pattern, values: Mapping[str, str], depth: int) -> list[Part]:
        parts = []
        for literal, name, _, _ in string.Formatter().parse(pattern.translation):
            if literal:
                parts.append(Part(literal, known=True))
            if name is not None:
                value = values[name]
                parts += self._say(value, depth) if name.isupper() else [Part(self._number(value), known=True)]
        return parts

    def _number(self, text: str) -> str:
        return text.replace(".", self._decimal) if DECIMALS.fullmatch(text) else text


def _is_value(text: str) -> bool:
    return QUOTED.fullmatch(text) is not None or JOINTS.search(text) is None


def path_of(code: str) -> Path:
    """Return where the patterns of a language are; English has none, as the code speaks it."""
    return Path(__file__).parent / f"refusals.{code}.toml"


@cache
def load(code: str, decimal: str) -> Refusals:
    """Read the patterns of a language."""
    sections = tomllib.loads(path_of(code).read_text(encoding="utf-8"))
    return Refusals({text: said for section in sections.values() for text, said in section.items()}, decimal)
