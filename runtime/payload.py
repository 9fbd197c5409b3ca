"""Values in and out of the log: canonical JSON, and the types they come back as.

Why: a step's identity contains the digest of its arguments, so equal arguments must encode to equal bytes
(sorted keys and sets). What goes into the log must come out as the same value, live and on replay alike, so
results make the round trip at once. Only data is decoded, never code (law 10: nothing is unpickled).

Speaks what msgspec speaks (builtins, dataclasses, Structs, TypedDicts, enums, dates, UUIDs), and pydantic
models by duck typing.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from .errors import InputInvalid, PayloadInvalid

LIMIT_BYTES = 4 * 1024 * 1024
"""The largest value that one record takes."""

_AT = re.compile(r"^(?P<detail>.*?)(?: - at `(?P<path>\$[^`]*)`)?$", re.DOTALL)


def to_json(value: object, what: str) -> bytes:
    """Canonical JSON of a value; `what` names it in errors.

    Raises:
        PayloadInvalid: it has no JSON form, or is larger than `LIMIT_BYTES`.
    """
    try:
        data = _encoder.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise PayloadInvalid(f"{what} cannot be written to the log: {error}; return plain data instead") from error
    if len(data) > LIMIT_BYTES:
        raise PayloadInvalid(
            f"{what} is {len(data):,} bytes, more than the {LIMIT_BYTES:,} that a record takes: "
            "store it elsewhere and pass a reference"
        )
    return data


def from_json(data: bytes | msgspec.Raw, type_: Any) -> Any:
    """The value of some JSON as `type_`.

    Raises:
        msgspec.ValidationError: it does not fit the type.
    """
    return msgspec.json.decode(data, type=type_, dec_hook=_load)


def decoder_of(type_: Any) -> msgspec.json.Decoder[Any]:
    """What does `from_json` for one type again and again."""
    return msgspec.json.Decoder(type_, dec_hook=_load)


def parse_input(data: bytes, type_: Any, name: str) -> Any:
    """Like `from_json`, for what comes from outside: an error names the path and the expected type."""
    try:
        return from_json(data, type_)
    except msgspec.ValidationError as error:
        match = _AT.match(str(error))
        assert match is not None
        raise InputInvalid(name, match["path"] or "$", match["detail"]) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputInvalid(name, "$", f"this is not JSON ({error})") from None


def _dump(value: Any) -> Any:
    dump = getattr(value, "model_dump", None)
    if callable(dump):
        return dump(mode="json")
    raise TypeError(f"objects of type {type(value).__qualname__} have no JSON form")


_encoder = msgspec.json.Encoder(enc_hook=_dump, order="deterministic")


def _load(type_: Any, value: Any) -> Any:
    validate = getattr(type_, "model_validate", None)
    if callable(validate):
        return validate(value)
    raise TypeError(f"values of type {getattr(type_, '__qualname__', type_)} cannot be read from JSON")
