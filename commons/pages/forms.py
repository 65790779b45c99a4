"""Forms made of the models that the API reads: the same fields, defaults, bounds and refusals.

An input is called as the problem documents call its field: ``data_requirements.features.range.0``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from commons.errors import DeltaMLError, InvalidInput
from commons.protocol.messages import Body, problems_of

AnyBody = TypeVar("AnyBody", bound=Body)
Schema = Mapping[str, Any]


@dataclass(frozen=True)
class Field:
    """One input.

    Parameters
    ----------
    name : str
        Path of the value in the model.
    kind : str
        ``text``, ``password``, ``number``, ``integer``, ``decimal`` (exact), ``choice``, ``file``, or
        ``list`` of texts.
    value : str
        What is in it: first the default.
    required : bool
        Whether the model has no default for it.
    low, high : number, optional
        Its bounds, where they are possible values themselves.
    choices : tuple of str
        Of a choice.
    error : str, optional
        What is wrong with what was sent.
    label : str, optional
        What it is called, where the catalogue cannot know.
    """

    name: str
    kind: str
    value: str = ""
    required: bool = True
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    error: str | None = None
    label: str | None = None

    @property
    def key(self) -> str:
        """By what the catalogue has its texts."""
        return self.name.replace(".", "_")


class Form(Generic[AnyBody]):
    """Some fields of a model.

    Parameters
    ----------
    model : type
        What the API reads.
    fields : sequence of str or Field
        What people fill in: as the model has it, by its path, or as it is given.

    Attributes
    ----------
    fields : dict of str to Field
        As they are shown, by name.
    others : list of dict
        Field (if it is one) and reason of what is wrong elsewhere than in these fields.
    """

    def __init__(self, model: type[AnyBody], fields: Sequence[str | Field]) -> None:
        self._model = model
        schema = model.model_json_schema()
        given = [_field(schema, field) if isinstance(field, str) else field for field in fields]
        self.fields = {field.name: field for field in given}
        self.others: list[dict[str, str]] = []

    @property
    def errors(self) -> list[dict[str, str]]:
        """Field and reason of everything that is wrong."""
        own = [{"field": field.name, "reason": field.error} for field in self.fields.values() if field.error]
        return own + self.others

    def fill(self, sent: Mapping[str, str]) -> None:
        """Show what was sent."""
        self.fields = {name: replace(field, value=sent.get(name, "")) for name, field in self.fields.items()}

    def read(self, **fixed: Any) -> AnyBody:
        """Return the model of what the form shows, read as the API reads it.

        Parameters
        ----------
        **fixed
            What people do not fill in, by the name of the model's field.

        Raises
        ------
        pydantic.ValidationError
            It breaks the model's rules: :meth:`refuse` shows how.
        """
        document: dict[str, Any] = {}
        for field in self.fields.values():
            text = field.value if field.kind == "password" else field.value.strip()
            if text:
                _put(document, field.name.split("."), _value(field.kind, text))
        return self._model.model_validate_json(json.dumps(_listed(document) | fixed))

    def refuse(self, error: ValidationError | DeltaMLError) -> None:
        """Show what is wrong, each beside its field, or beside the first one that is part of it."""
        if isinstance(error, ValidationError):
            found = problems_of(error)
        elif isinstance(error, InvalidInput):
            found = [{"field": error.field or "", "reason": error.reason}]
        else:
            found = [{"field": "", "reason": str(error)}]
        for problem in found:
            name = self._place(problem["field"])
            if name is None:
                self.others.append(problem)
            else:
                self.fields[name] = replace(self.fields[name], error=problem["reason"])

    def _place(self, path: str) -> str | None:
        parts = path.split(".") if path else []
        for length in range(len(parts), 0, -1):
            if (name := ".".join(parts[:length])) in self.fields:
                return name
        return next((name for name in self.fields if path and name.startswith(f"{path}.")), None)


def _field(schema: Schema, name: str) -> Field:
    part, required, chosen = schema, True, False
    for step in name.split("."):
        part = _resolved(part, schema)
        if "prefixItems" in part:
            part = {**part["prefixItems"][int(step)], **_item(part.get("default"), int(step))}
        elif "items" in part:  # of a list that may be empty: people may choose to have this item
            part, required, chosen = part["items"], False, True
        else:
            required = required and step in part.get("required", ())
            part = {**part["properties"][step], **_item(part.get("default"), step)}
    part = _resolved(part, schema)
    default = part.get("default")
    return Field(
        name=name,
        kind=_kind(part),
        value="" if default is None else f"{default:g}" if isinstance(default, float) else str(default),
        required=required,
        low=part.get("minimum"),
        high=part.get("maximum"),
        choices=(("",) if chosen else ()) + tuple(str(choice) for choice in _choices(part)),
    )


def _item(default: Any, step: str | int) -> dict[str, Any]:
    # A default of the whole says those of its parts.
    return {} if default is None else {"default": default[step]}


def _resolved(part: Schema, schema: Schema) -> dict[str, Any]:
    if "$ref" in part:
        found = schema["$defs"][part["$ref"].rsplit("/", 1)[1]]
        return {**found, **{key: value for key, value in part.items() if key != "$ref"}}
    if "anyOf" in part:  # a value or none; or a decimal number, which may be written as text
        kinds = [each for each in part["anyOf"] if each.get("type") != "null"]
        exact = {"type": "decimal"} if len(kinds) > 1 else {}
        return {**kinds[0], **exact, **{key: value for key, value in part.items() if key != "anyOf"}}
    return dict(part)


def _choices(part: Schema) -> Sequence[Any]:
    return [part["const"]] if "const" in part else part.get("enum", ())


def _kind(part: Schema) -> str:
    if _choices(part):
        return "choice"
    if part.get("format") == "password":
        return "password"
    kind = str(part.get("type", "string"))
    return {"array": "list", "string": "text"}.get(kind, kind)


def _value(kind: str, text: str) -> Any:
    if kind == "list":
        return [item.strip() for item in text.replace("\n", ",").split(",") if item.strip()]
    if kind in ("integer", "number", "choice"):
        number = int if kind == "integer" else _number
        try:
            return number(text)
        except ValueError:
            return text  # the model says what is wrong with it
    return text


def _number(text: str) -> int | float:
    number = float(text)
    return int(number) if number.is_integer() and abs(number) < 2**53 else number


def _put(document: dict[str, Any], path: list[str], value: Any) -> None:
    for step in path[:-1]:
        document = document.setdefault(step, {})
    document[path[-1]] = value


def _listed(value: Any) -> Any:
    # What has places for keys is a list: one that lacks a place is as long as its known ones.
    if not isinstance(value, dict):
        return value
    listed = {key: _listed(part) for key, part in value.items()}
    return list(listed.values()) if listed and all(key.isdigit() for key in listed) else listed
