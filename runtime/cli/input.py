"""A run's input from the command line: JSON, a file, standard input, or single arguments."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from typing import Any

from ..errors import ConfigInvalid

_NAMED = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)


def read_input(given: Sequence[str]) -> bytes:
    """Return the input as a JSON object.

    Args:
        given: each is a JSON object, `@file` or `-` (standard input) with one, or `NAME=VALUE`, whose value is JSON
            or else text; later ones win.

    Raises:
        ConfigInvalid: one is none of these, or a file cannot be read; names the fix.
    """
    arguments: dict[str, Any] = {}
    for text in given:
        named = _NAMED.fullmatch(text)
        if named is None:
            arguments.update(_object(text))
        else:
            arguments[named[1]] = _value(named[2])
    return json.dumps(arguments).encode()


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _object(text: str) -> dict[str, Any]:
    where = "--input"
    try:
        if text == "-":
            where, text = "--input - (standard input)", sys.stdin.read()
        elif text.startswith("@"):
            where = f"--input {text}"
            with open(text[1:], encoding="utf-8") as file:
                text = file.read()
        value = json.loads(text)
    except OSError as error:
        raise ConfigInvalid(f"{where} cannot be read: {(error.strerror or str(error)).lower()}") from None
    except UnicodeDecodeError:
        raise ConfigInvalid(f"{where} is not UTF-8 text: give a JSON file") from None
    except (ValueError, RecursionError) as error:
        raise ConfigInvalid(
            f"{where} is not JSON ({error}): quote it as one argument, or give NAME=VALUE or @file"
        ) from None
    if not isinstance(value, dict):
        raise ConfigInvalid(f'{where} is not a JSON object: give the arguments by name, {{"name": value}}')
    return value
