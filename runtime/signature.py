"""The signatures of definitions: their parameters, and how arguments and results are checked, encoded and decoded."""

from __future__ import annotations

import functools
import inspect
import typing
from typing import Any

import msgspec

from .errors import DefinitionInvalid


class Signature(msgspec.Struct, frozen=True):
    """How values of a function's arguments and result are checked, encoded and decoded."""

    input: type[msgspec.Struct]
    result: Any


def parameters_of(name: str, fn: Any) -> inspect.Signature:
    """Return the parameters that a call must fit.

    Raises:
        DefinitionInvalid: it takes what cannot be recorded by name.
    """
    signature = inspect.signature(fn)
    parameters = list(signature.parameters.values())
    if parameters and parameters[0].name == "self":
        parameters = parameters[1:]
    for parameter in parameters:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise DefinitionInvalid(
                f"{name} takes *{parameter.name}: name its parameters, so that calls can be recorded"
            )
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise DefinitionInvalid(f"{name} takes {parameter.name} by position only: remove the '/' behind it")
    return signature.replace(parameters=parameters)


def signature_of(name: str, fn: Any) -> Signature:
    """Return the types of a function's arguments and result.

    Raises:
        DefinitionInvalid: an annotation cannot be resolved or has no JSON form.
    """
    try:
        hints = typing.get_type_hints(fn, include_extras=True)
    except (NameError, TypeError) as error:
        raise DefinitionInvalid(f"the annotations of {name} cannot be resolved: {error}") from error
    fields: list[tuple[str, Any, Any]] = []
    for parameter in parameters_of(name, fn).parameters.values():
        default = msgspec.NODEFAULT if parameter.default is parameter.empty else parameter.default
        if isinstance(default, list | dict | set):
            default = msgspec.field(default_factory=functools.partial(type(default), default))
        fields.append((parameter.name, hints.get(parameter.name, Any), default))
    model = msgspec.defstruct(f"{name}.input", fields, kw_only=True, forbid_unknown_fields=True)
    try:
        msgspec.json.Decoder(model, dec_hook=lambda _type, value: value)
    except TypeError as error:
        raise DefinitionInvalid(f"an argument type of {name} has no JSON form: {error}") from error
    return Signature(model, hints.get("return", Any))
