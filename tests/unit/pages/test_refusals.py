"""What the code says in English can be said in every language of the pages, and nothing else is in their files."""

from __future__ import annotations

import ast
import re
import string
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_core._pydantic_core import list_all_errors
from werkzeug.exceptions import default_exceptions

import commons
import commons.http.problems
import data_owner.app
import federated_aggregator.app
import model_buyer.app
from commons.errors import DeltaMLError
from commons.http.problems import STATUS
from commons.pages.languages import LANGUAGES, SPOKEN, Language, load
from commons.pages.refusals import DEEPEST, JOINTS, LONGEST, Pattern, path_of
from commons.protocol.messages import REASONS

PACKAGES = ("commons", "model_buyer", "data_owner", "federated_aggregator")
ROOT = Path(commons.__path__[0]).parent
OTHERS = [code for code in LANGUAGES if code != SPOKEN]
CATALOGUE = load()
VALUE = "‹1›"
"""Stands for any value: it has no space, as what has one could be English."""

ELSEWHERE = {
    "commons/audit/": "the command line that audits and arbitrates",
    "commons/chain/compiler.py": "a developer's command line",
    "commons/chain/deployment.py": "the command line that deploys the contract",
    "commons/command_line.py": "command lines",
    "commons/configuration.py": "a service that cannot start has no pages",
    "commons/http/answers.py": "becomes the kind of a failure to reach a peer, without its text",
    "commons/http/documentation.py": "a mistake of whoever writes a route, seen when the service starts",
    "commons/http/nonces.py": "between services: how requests are signed",
    "commons/http/refusal_signing.py": "between services: how refusals are signed",
    "commons/http/request_signing.py": "between services: how requests are signed",
    "commons/http/routes.py": "a mistake of whoever writes a route, seen when the service starts",
    "commons/http/signatures.py": "between services: how messages are signed",
    "commons/learning/contributions.py": "a mistake of whoever calls it",
    "commons/protocol/disputes.py": "evidence is read by the arbiter's command line",
    "commons/protocol/transcript.py": "transcripts are read by the auditor's command line",
    "commons/users/command_line.py": "a command line",
    "model_buyer/vault.py": "a service that cannot start has no pages",
}
"""Modules whose sentences no page shows in the ordinary ways of failing, and why. All others are looked at."""
UNEXPECTED = frozenset({"AssertionError", "NotImplementedError", "RuntimeError", "TypeError", "SystemExit"})
"""Raised for mistakes in the code: who reads pages is told that there was an unexpected error."""
NOT_SAID = {
    f"unknown or ambiguous routes: {VALUE}": "a mistake of whoever writes a route, seen when the service starts",
    f"{VALUE} of {VALUE}": "said with what it is of: COMPOSED has all of them",
}
SAID = {"Matching": 1, "Limit": 0, "Difference": 0, "compare": 0, "append": 0, "require_enough": 1}
"""Which argument of these calls is a sentence or part of one."""
NAMES = frozenset({"reason", "came", "found", "short", "words", "OVER", "REASONS", "REFUNDED", "NO_TABLE"})
"""What sentences are called."""
COMPOSED = {
    "partial MSE of {account}": "partial MSE",
    "contribution of {account}": "contribution",
    "whether it answered of {account}": "whether it answered",
    "the initial MSE, the MSE of iterations {iterations}": "the initial MSE",
    "the MSE of the result, the MSE of iterations {iterations}": "the MSE of the result",
}
"""Patterns of which the code has only this part in one place."""


class Module:
    """What one module says."""

    def __init__(self, path: Path) -> None:
        self.name = path.relative_to(ROOT).as_posix()
        self.tree = ast.parse(path.read_text(encoding="utf-8"))
        self.nodes = list(ast.walk(self.tree))

    @cached_property
    def functions(self) -> dict[str, ast.FunctionDef]:
        return {node.name: node for node in self.nodes if isinstance(node, ast.FunctionDef)}

    @cached_property
    def assigned(self) -> dict[str, list[ast.expr]]:
        found: dict[str, list[ast.expr]] = {}
        for node in self.nodes:
            if isinstance(node, ast.Assign):
                for target in node.targets:
                    names = target.elts if isinstance(target, ast.Tuple) else [target]
                    values = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]
                    for name, value in zip(names, values, strict=False):
                        if isinstance(name, ast.Name):
                            found.setdefault(name.id, []).append(value)
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
                found.setdefault(node.target.id, []).append(node.value)
        return found

    def sentences(self, node: ast.AST | None) -> Iterator[str]:
        """Yield the texts that an expression may be, with VALUE for each value in them."""
        match node:
            case ast.Constant(value=str(text)):
                yield text
            case ast.JoinedStr(values=parts):
                yield "".join(map(self._part, parts))
            case ast.IfExp(body=one, orelse=other):
                yield from self.sentences(one)
                yield from self.sentences(other)
            case ast.Subscript(value=value):
                yield from self.sentences(value)
            case ast.BoolOp(values=nodes) | ast.Tuple(elts=nodes) | ast.Dict(values=nodes):
                for each in nodes:
                    yield from self.sentences(each)
            case ast.Name(id=name):
                for each in self.assigned.get(name, ()):
                    if not isinstance(each, ast.Name):
                        yield from self.sentences(each)
            case ast.Call(func=ast.Name(id=name)) if name in self.functions:
                yield from self._returned(self.functions[name])

    def _returned(self, function: ast.FunctionDef) -> Iterator[str]:
        for node in ast.walk(function):
            if isinstance(node, ast.Return) and not isinstance(node.value, ast.Call):
                yield from self.sentences(node.value)

    def _part(self, node: ast.expr) -> str:
        if isinstance(node, ast.Constant):
            return str(node.value)
        assert isinstance(node, ast.FormattedValue)
        known = self.assigned.get(node.value.id, []) if isinstance(node.value, ast.Name) else []
        if len(known) == 1 and isinstance(known[0], ast.Constant) and isinstance(known[0].value, str):
            return known[0].value
        return VALUE

    def raised(self) -> Iterator[str]:
        """Yield every sentence that may be said to somebody."""
        for node in self.nodes:
            match node:
                case ast.Raise(exc=ast.Call(func=ast.Name(id=name), args=[first, *_])) if name not in UNEXPECTED:
                    yield from self.sentences(first)
                case ast.Call(func=ast.Attribute(value=ast.Call(func=ast.Name(id="super"))), args=[first, *_]):
                    yield from self.sentences(first)
                case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=args) if name in SAID:
                    yield from (text for arg in args[SAID[name] :][:1] for text in self.sentences(arg))
                case ast.keyword(arg="reason", value=value):
                    yield from self.sentences(value)
                case ast.FunctionDef(name="__str__"):
                    yield from self._returned(node)
        for name in NAMES:
            yield from (text for value in self.assigned.get(name, ()) for text in self.sentences(value))

    def texts(self) -> Iterator[str]:
        """Yield every text and every name in it: whatever it may be for."""
        for node in self.nodes:
            if isinstance(node, (ast.JoinedStr, ast.Constant)):
                yield from self.sentences(node)
            elif isinstance(node, ast.ClassDef):
                yield from (node.name, node.name.lower())
            elif isinstance(node, ast.Name):
                yield node.id


MODULES = [Module(path) for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
RAISED = sorted(
    {
        (module.name, text)
        for module in MODULES
        if not any(module.name.startswith(prefix) for prefix in ELSEWHERE)
        for text in module.raised()
        if text not in NOT_SAID and " " in text and re.search("[a-z]{2}", text)
    }
)


def require_said(code: str, text: str, shortened: bool = False) -> None:
    shown = Language(code, CATALOGUE).said(text)
    assert shown.unescape() != text, f"refusals.{code}.toml says nothing for: {text}"
    assert "lang=" not in shown, f"refusals.{code}.toml says less than all of: {text}: {shown}"
    assert shortened or VALUE not in text or VALUE in shown, f"no value of: {text}: {shown}"


def patterns(code: str) -> dict[str, str]:
    sections = tomllib.loads(path_of(code).read_text(encoding="utf-8"))
    return {text: said for section in sections.values() for text, said in section.items()}


def places(text: str) -> list[str]:
    return [name for _, name, _, _ in string.Formatter().parse(text) if name is not None]


def test_the_sentences_are_found() -> None:
    assert len(RAISED) > 250
    texts = {text for _, text in RAISED}
    assert f"there is no model {VALUE}" in texts  # raised
    assert "the training failed; the payment is refunded" in texts  # kept as a reason
    assert f"column {VALUE} is missing" in texts  # what something says of itself
    assert "a number is missing" in texts or f"line {VALUE}, column {VALUE}: {VALUE}" in texts  # returned
    assert "must not have control characters" in texts  # a rule of a model
    assert f"{VALUE} answered {VALUE}: {VALUE}" in texts  # made by the error itself


def test_no_module_is_left_out_that_is_not_there() -> None:
    for prefix in ELSEWHERE:
        assert any(module.name.startswith(prefix) for module in MODULES)


@pytest.mark.parametrize("code", OTHERS)
@pytest.mark.parametrize(("module", "text"), RAISED)
def test_every_sentence_is_said_in_every_language(module: str, text: str, code: str) -> None:
    require_said(code, text)


def models() -> Iterator[type[BaseModel]]:
    found: list[type[BaseModel]] = [BaseModel]
    while found:
        model = found.pop()
        if model.__module__.split(".")[0] in PACKAGES:
            yield model
        found += model.__subclasses__()


NUMBER = {"ge": "greater_than_equal", "gt": "greater_than", "le": "less_than_equal", "lt": "less_than"}
REFUSING: dict[str, frozenset[str]] = {
    "int": frozenset({"int_type", "int_parsing", "int_parsing_size", "int_from_float"}),
    "float": frozenset({"float_type", "float_parsing", "finite_number"}),
    "decimal": frozenset({"decimal_type", "decimal_parsing", "finite_number"}),
    "bool": frozenset({"bool_type", "bool_parsing"}),
    "str": frozenset({"string_type", "string_unicode", "string_too_short", "string_too_long"}),
    "bytes": frozenset({"bytes_type", "bytes_invalid_encoding", "bytes_too_short", "bytes_too_long"}),
    "uuid": frozenset({"uuid_type", "uuid_parsing"}),
    "datetime": frozenset({"datetime_type", "datetime_parsing", "datetime_from_date_parsing", "timezone_aware"}),
    "literal": frozenset({"literal_error"}),
    "enum": frozenset({"enum"}),
    "list": frozenset({"list_type", "too_short", "too_long"}),
    "tuple": frozenset({"tuple_type", "missing", "too_short", "too_long"}),
    "dict": frozenset({"dict_type"}),
    "model": frozenset({"model_type"}),
    "model-field": frozenset({"missing"}),
    "model-fields": frozenset({"extra_forbidden", "model_attributes_type"}),
}
"""The kinds of refusal of pydantic's parts of a model that refuse anything."""
WRAPPING = frozenset(
    {
        "any",
        "definitions",
        "definition-ref",
        "default",
        "nullable",
        "function-after",
        "function-before",
        "lax-or-strict",
        "json-or-python",
        "is-instance",
        "chain",
        "union",
    }
)
"""Parts that refuse nothing themselves, or in our own words."""


def parts_of(schema: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(schema, Mapping):
        if isinstance(schema.get("type"), str):
            yield schema
        for key, value in schema.items():
            if key not in ("metadata", "serialization", "ref", "config", "expected", "default", "function"):
                yield from parts_of(value)
    elif isinstance(schema, (list, tuple)):
        for each in schema:
            yield from parts_of(each)


def kinds_of_refusal() -> set[str]:
    found = set()
    for model in models():
        for part in parts_of(model.__pydantic_core_schema__):
            if part["type"] not in WRAPPING:
                found |= REFUSING[part["type"]]
                found |= {kind for bound, kind in NUMBER.items() if bound in part}
                found |= {"decimal_max_digits"} if "max_digits" in part else set()
                found |= {"decimal_max_places"} if "decimal_places" in part else set()
    return found | {"json_invalid"}


@pytest.mark.parametrize("code", OTHERS)
def test_whatever_pydantic_refuses_in_a_model_is_said_in_every_language(code: str) -> None:
    kinds = kinds_of_refusal()
    assert {"missing", "int_parsing", "greater_than_equal", "literal_error", "too_long"} <= kinds
    checked = set()
    for error in list_all_errors():
        if error["type"] in kinds:
            checked.add(error["type"])
            for template in {error["message_template_python"], error.get("message_template_json")} - {None}:
                own = REASONS.get(error["type"])
                text = own or re.sub(r"\{\w+\}", VALUE, str(template))
                require_said(code, text, shortened="{error}" in str(template))
    assert checked == kinds


@pytest.mark.parametrize("code", OTHERS)
def test_whatever_the_framework_refuses_is_said_in_every_language(code: str) -> None:
    for status in (400, 403, 406, 408, 413, 414, 415, 416, 429, 500, 503):
        require_said(code, str(default_exceptions[status].description))


def test_every_status_of_an_error_is_named() -> None:
    statuses = {int(status) for status in STATUS.values()} | {400, 401, 403, 404, 405, 413, 415, 422, 429, 500}
    assert {f"problem.{status}{end}" for status in statuses for end in ("", "_todo")} <= set(CATALOGUE)


def sources() -> list[str]:
    ours = {text for module in MODULES for text in module.texts()}
    pydantic = {
        re.sub(r"\{\w+\}", VALUE, str(error[template]))  # type: ignore[literal-required]
        for error in list_all_errors()
        for template in ("message_template_python", "message_template_json")
        if error.get(template)
    }
    framework = {str(error.description) for error in default_exceptions.values()}
    pieces = {piece for text in ours for piece in (*JOINTS.split(text), text.strip("; "))}
    return sorted(ours | pieces | pydantic | framework | {"True", "False"})


def test_no_pattern_is_of_what_the_code_does_not_say_any_more() -> None:
    texts = sources()
    whole = set(texts)
    templates = [
        Pattern(tuple(parts), tuple(map(str, range(len(parts) - 1))), "")
        for parts in (text.split(VALUE) for text in texts)
        if len(parts) > 1 and sum(len(part.strip(" :;,()")) for part in parts) > 5
    ]

    def found(text: str) -> bool:
        filled = COMPOSED.get(text, text.format_map(dict.fromkeys(places(text), VALUE)))
        return filled in whole or any(template.match(filled) is not None for template in templates)

    assert not [text for code in OTHERS for text in patterns(code) if not found(text)]


@pytest.mark.parametrize("code", OTHERS)
def test_translations_have_the_same_places_as_their_patterns(code: str) -> None:
    plurals = {"s", "type"}  # in pydantic's sentences
    for text, said in patterns(code).items():
        names = places(text)
        assert len(names) == len(set(names)), text
        assert set(names) - plurals <= set(places(said)) <= set(names) or text in COMPOSED or "error" in names, text
        assert text.strip() == text and said.strip() == said
        assert "".join(Pattern.parse(text, said).literals).strip()


def spanish(text: str) -> str:
    return Language("es", CATALOGUE).said(text).unescape()


def test_values_stay_as_they_are_but_for_decimals() -> None:
    assert spanish("the lower bound 3 must be below the upper bound 2.5") == (
        "el mínimo 3 tiene que ser menor que el máximo 2,5"
    )
    assert spanish("column 'a: b' is missing") == "falta la columna 'a: b'"
    assert spanish("contract 0.5.1 owes this account: POST /contract/withdraw first").startswith("el contrato 0.5.1 le")


def test_causes_and_lists_are_said_piece_by_piece() -> None:
    assert spanish("mine: column 'x' is missing; column 'y' goes from 0.5 to 2, outside [0, 1]") == (
        "mine: falta la columna 'x'; la columna 'y' va de 0,5 a 2, fuera de [0; 1]"
    )
    assert spanish("the training failed; the payment is refunded: TooFewAnswered: no validator answered the zero of"
                   " round 0") == (
        "el entrenamiento falló; el pago se devuelve: respondieron muy pocos: ningún validador respondió: modelo cero"
        " de la ronda 0"
    )  # fmt: skip


def test_what_has_no_translation_is_marked_as_english() -> None:
    language = Language("es", CATALOGUE)
    assert language.said("a <b> of a peer") == '<span lang="en">a &lt;b&gt; of a peer</span>'
    assert language.said("the training was aborted: out of paper") == (
        'el entrenamiento se interrumpió: <span lang="en">out of paper</span>'
    )
    assert Language("en", CATALOGUE).said("is <missing>") == "is &lt;missing&gt;"


@pytest.mark.parametrize("text", ["none: " * 5000, "there is no " * 300, ": " * 2000, "a is b: " * 400, "x" * LONGEST])
def test_texts_that_peers_make_long_cost_no_more_than_others(text: str) -> None:
    shown = Language("es", CATALOGUE).said(text)
    assert len(shown) < 2 * len(text) + 1000
    assert DEEPEST < 50


def test_errors_that_end_trainings_have_names() -> None:
    def below(kind: type[DeltaMLError]) -> Iterable[str]:
        yield kind.__name__
        for each in kind.__subclasses__():
            yield from below(each)

    assert federated_aggregator.app and data_owner.app and model_buyer.app  # whose errors are looked for
    fatal = {name for kind in federated_aggregator.orchestration.FATAL for name in below(kind)}
    for code in OTHERS:
        assert fatal - {"InvalidTranscript"} <= set(patterns(code))
