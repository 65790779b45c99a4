"""docs/orders.md names every field of an order, with its default and bounds."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from model_buyer.api.models import OrderFields

DOCUMENT = Path(__file__).parents[3] / "docs" / "orders.md"


def fields(schema: Any, definitions: Any, path: str = "") -> dict[str, Any]:
    """Return the schemas of the fields that hold values, by path."""
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rsplit("/", 1)[1]]
    if "properties" not in schema:
        return {path: schema}
    found: dict[str, Any] = {}
    for name, below in schema["properties"].items():
        below = {**below, "default": ...} if "$ref" not in below and name in schema.get("required", ()) else below
        found |= fields(below, definitions, f"{path}.{name}" if path else name)
    return found


def bounds(schema: Any) -> str | None:
    """Return how the document begins to say the bounds of a number."""
    low, above = schema.get("minimum"), schema.get("exclusiveMinimum")
    high, below = schema.get("maximum"), schema.get("exclusiveMaximum")
    if (low, above) == (None, None) or (high, below) == (None, None):
        return None
    return f"{low if above is None else f'above {above}'} to {high if below is None else f'below {below}'}"


def test_every_field_is_documented_with_its_default_and_bounds() -> None:
    schema = OrderFields.model_json_schema()
    rows = re.findall(r"^\| `([a-z_.]+)` \| [^|]+ \| `?([^|`]+)`? \| ([^|]+) \|$", DOCUMENT.read_text(), re.MULTILINE)
    documented = {path: (default, limits) for path, default, limits in rows}
    known = fields(schema, schema["$defs"])
    assert documented.keys() == known.keys()
    for path, field in known.items():
        default, limits = documented[path]
        expected = {} if path.endswith(".desc") else field["default"]
        assert default == (
            "required" if expected is ... else expected if isinstance(expected, str) else json.dumps(expected)
        )
        if (said := bounds(field)) is not None:
            assert re.match(rf"{re.escape(said)}(\b|$)", limits), (path, said, limits)
        for choice in field.get("enum", ()):
            assert str(choice) in limits, path
