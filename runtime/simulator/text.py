"""Generated answers: the same for the same question and seed, plainly made up, and of the right shape.

Sentences reuse the longer words of the question, so that a demo can be followed; JSON fits the schema that was asked
for; embeddings are unit vectors that depend on the text alone.
"""

from __future__ import annotations

import hashlib
import math
import random
import re
from typing import Any

DEFAULT_TOKENS = 120
FRAMES = (
    "The main point about {a} is how it changes {b}.",
    "Readers who care about {a} ask first about {b} and {c}.",
    "What stands out is {a}, and {b} explains much of it.",
    "With {a} in mind, {b} looks less like an accident than a choice.",
    "Some doubt remains over {a}, yet {b} and {c} point the same way.",
    "In practice, {a} matters when {b} is under load.",
)


def tokens_of(text: str) -> int:
    """Count tokens, roughly: four characters each."""
    return max(1, math.ceil(len(text) / 4))


def draw(seed: int, *parts: str) -> random.Random:
    """Return a generator that depends on the seed and the parts."""
    digest = hashlib.sha256("\0".join((str(seed), *parts)).encode()).digest()
    return random.Random(int.from_bytes(digest[:8], "big"))  # noqa: S311 - text is no secret


def write(question: str, dice: random.Random, max_tokens: int | None) -> tuple[str, bool]:
    """Write an answer; return it and whether it was cut to length."""
    words = list(dict.fromkeys(re.findall(r"[A-Za-z][a-z]{5,}", question[-4000:]))) or ["nothing", "in", "particular"]
    goal = DEFAULT_TOKENS if max_tokens is None else max_tokens
    text = ""
    while tokens_of(text) < min(goal, DEFAULT_TOKENS + dice.randint(-30, 30)):
        a, b, c = (dice.choice(words) for _ in range(3))
        text += (" " if text else "") + dice.choice(FRAMES).format(a=a, b=b, c=c)
    if max_tokens is not None and tokens_of(text) > max_tokens:
        return text[: max_tokens * 4], True
    return text, False


def fill(schema: Any, dice: random.Random, words: list[str], defs: dict[str, Any] | None = None, depth: int = 0) -> Any:
    """Make a value that fits a JSON schema."""
    if not isinstance(schema, dict):
        return None
    defs = defs if defs is not None else {**schema.get("definitions", {}), **schema.get("$defs", {})}
    if "$ref" in schema:
        return fill(defs.get(str(schema["$ref"]).rsplit("/", 1)[-1], {}), dice, words, defs, depth + 1)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return dice.choice(schema["enum"])
    for union in ("anyOf", "oneOf", "allOf"):
        if schema.get(union):
            options = [one for one in schema[union] if not (depth > 4 and "$ref" in one)]
            return fill((options or schema[union])[0], dice, words, defs, depth + 1)
    kind = schema.get("type")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object" or "properties" in schema:
        return {
            name: fill(part, dice, words, defs, depth + 1)
            for name, part in schema.get("properties", {}).items()
            if depth < 6 or name in schema.get("required", ())
        }
    if kind == "array":
        least = int(schema.get("minItems", 0 if depth > 4 else 2))
        count = min(max(least, 2 if depth <= 4 else 0), int(schema.get("maxItems", 100)))
        return [fill(schema.get("items", {}), dice, words, defs, depth + 1) for _ in range(count)]
    if kind in ("integer", "number"):
        low: Any = schema.get("minimum", schema.get("exclusiveMinimum", 0))
        high: Any = schema.get("maximum", schema.get("exclusiveMaximum", low + 10))
        if kind == "integer":
            return dice.randint(math.ceil(low), max(math.ceil(low), math.floor(high)))
        return round(low + (high - low) * (0.1 + 0.8 * dice.random()), 3)
    if kind == "boolean":
        return dice.random() < 0.5
    if kind == "null":
        return None
    text = " ".join(dice.choice(words) for _ in range(4)).capitalize()
    text = text.ljust(int(schema.get("minLength", 0)), ".")
    return text[: int(schema.get("maxLength", 10_000))]


def embed(text: str, size: int) -> list[float]:
    """Make a unit vector from a text."""
    dice = draw(0, text)
    vector = [dice.gauss(0.0, 1.0) for _ in range(size)]
    length = math.sqrt(sum(x * x for x in vector))
    return [x / length for x in vector]
