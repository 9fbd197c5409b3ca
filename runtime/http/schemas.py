"""JSON schemas of the workflows' types, what their docstrings say of arguments, and values that show their shape.

Pure. An example is only told if it would be taken: it is parsed as what a client sends.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Iterable
from typing import Any

import msgspec

from ..definitions import Workflow
from ..errors import InputInvalid
from ..payload import to_json

Json = dict[str, Any]

REF = "#/components/schemas/"

_TEXTS = {
    "date-time": "2026-01-31T12:00:00Z",
    "date": "2026-01-31",
    "time": "12:00:00Z",
    "duration": "PT1H",
    "uuid": "12345678-1234-5678-1234-567812345678",
    "decimal": "1.5",
    "base64": "dGV4dA==",
    "email": "somebody@example.com",
    "uri": "https://example.com/",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
}
_ARGUMENT = re.compile(r"^(?P<name>\w+)(?: \([^)]*\))?: (?P<text>.*)$")


class Schemas:
    """JSON schemas of types, gathered under names that are unique in one document."""

    def __init__(self, types: Iterable[Any], *, root: str = REF) -> None:
        self._types = list(types)
        self._root = root
        self.components: Json = {}
        self._schemas, components = msgspec.json.schema_components(
            self._types, schema_hook=self._foreign, ref_template=root + "{name}"
        )
        self.components |= components

    def _foreign(self, type_: Any) -> Json:
        """Describe what msgspec does not know: pydantic models by themselves, anything else as any value."""
        describe = getattr(type_, "model_json_schema", None)
        if not callable(describe):
            return {}
        schema: Json = describe(ref_template=self._root + "{model}")
        self.components |= schema.pop("$defs", {})
        return schema

    def __getitem__(self, type_: Any) -> Json:
        """Give the schema of one of the types."""
        found: Json = self._schemas[next(n for n, known in enumerate(self._types) if known is type_)]
        return found

    def resolve(self, schema: Json) -> Json:
        """Give what a schema refers to; itself if it refers to nothing."""
        while "$ref" in schema:
            schema = self.components[schema["$ref"].removeprefix(self._root)]
        return schema

    def example(self, schema: Json, within: frozenset[str] = frozenset()) -> Any:
        """Make a value that shows a schema's shape: what is required, in its simplest form.

        Args:
            schema: one of these.
            within: what it is part of; a type that holds itself is shown once.
        """
        while "$ref" in schema:
            if schema["$ref"] in within:
                return {}
            within |= {schema["$ref"]}
            schema = self.components[schema["$ref"].removeprefix(self._root)]
        if schema.get("examples"):
            return schema["examples"][0]
        for given in ("default", "const"):
            if given in schema:
                return schema[given]
        if schema.get("enum"):
            return schema["enum"][0]
        for several in ("anyOf", "oneOf", "allOf"):
            if schema.get(several):
                fit = [one for one in schema[several] if one.get("type") != "null" and one.get("$ref") not in within]
                return self.example(fit[0], within) if fit else None
        return self._plain(schema, within)

    def _plain(self, schema: Json, within: frozenset[str]) -> Any:
        kind = schema.get("type", "object")
        match kind if isinstance(kind, str) else next((one for one in kind if one != "null"), "null"):
            case "object":
                known = schema.get("properties", {})
                return {name: self.example(known[name], within) for name in schema.get("required", ()) if name in known}
            case "array":
                first = [self.example(one, within) for one in schema.get("prefixItems", ())]
                more = schema.get("minItems", 0) - len(first)
                return first + [self.example(schema.get("items") or {}, within) for _ in range(more)]
            case "string":
                text = _TEXTS.get(schema.get("format") or schema.get("contentEncoding") or "", "text")
                return text.ljust(schema.get("minLength", 0), "x")[: schema.get("maxLength")]
            case "integer":
                return math.ceil(_number(schema, 1))
            case "number":
                return _number(schema, 1.5)
            case "boolean":
                return True
        return None


def _number(schema: Json, wanted: float) -> Any:
    """A number between the bounds, `wanted` if it is."""
    step = schema.get("multipleOf", 1 if schema.get("type") == "integer" else 0.5)
    bounds: dict[str, float] = {"exclusiveMinimum": -math.inf, "exclusiveMaximum": math.inf} | schema
    low = bounds.get("minimum", bounds["exclusiveMinimum"])
    high = bounds.get("maximum", bounds["exclusiveMaximum"])
    if low < wanted < high and not wanted % step:
        return wanted
    if math.isinf(low):
        return high - step if "exclusiveMaximum" in schema else high
    if "exclusiveMinimum" not in schema:
        return low
    return low + step if low + step < high else (low + high) / 2


def example_of(workflow: Workflow[Any, Any], schemas: Schemas) -> Any:
    """Give arguments that show how a workflow is started: those it declares, or made from its types.

    None: no arguments that would be taken could be made, such as where a type has rules of its own.
    """
    if workflow.example is not None:
        return msgspec.json.decode(to_json(workflow.example, f"the example of {workflow.name}"))
    made = schemas.example(schemas[workflow.signature.input])
    try:
        workflow.parse(msgspec.json.encode(made))
    except InputInvalid:
        return None
    return made


def documented(workflow: Workflow[Any, Any]) -> tuple[str, dict[str, str]]:
    """Read a workflow's docstring: what stands below its first line, and what `Args:` says of each argument."""
    lines = (inspect.getdoc(workflow.fn) or "").splitlines()[1:]
    text: list[str] = []
    told: dict[str, str] = {}
    section, last = "", ""
    for line in lines:
        if re.fullmatch(r"[A-Z]\w+:", line):
            section = line
        elif not section:
            text.append(line)
        elif section == "Args:":
            match = _ARGUMENT.match(line.strip())
            if match is not None and line[:4].isspace() and not line[:5].isspace():
                last = match["name"]
                told[last] = match["text"].strip()
            elif last and line.strip():
                told[last] += " " + line.strip()
    return "\n".join(text).strip(), told
