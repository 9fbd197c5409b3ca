"""JSON Schemas of types: msgspec's own, dataclasses' and pydantic's, gathered for one document."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

Json = dict[str, Any]

REF = "#/components/schemas/"


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
