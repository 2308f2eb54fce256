"""Parsing of JSON, config sections and command-line text into dataclasses by their declared types.

Supported types are str, int, float, bool, None, `Any`, Literal, unions of these, tuples, mappings and other
dataclasses. If the declared type requires it, lists become tuples, ints become floats, NumPy scalars become Python
numbers and mappings become dataclasses. Nothing else is converted, so a misspelled value raises an error. Values of
other classes are checked with `isinstance`, and values with any other annotation are not checked.
"""

import ast
import dataclasses
import numbers
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar, Union

T = TypeVar("T")


def parse(cls: type[T], content: Mapping[str, Any], *, where: str) -> T:
    """Builds a dataclass from a mapping of its fields.

    Args:
      cls: The dataclass.
      content: Values by field name. Fields that have a default may be missing.
      where: Source of the content for error messages, such as "config.optimizer".

    Raises:
      ValueError: If `content` is not a mapping, or if a field is unknown or missing, has the wrong type, or is rejected
        by the dataclass itself.
    """
    if not isinstance(content, Mapping):
        raise ValueError(f"{where} must be a mapping of fields, got {content!r}.")
    check_names(content, names(cls), where=where)
    missing = [name for name in required_names(cls) if name not in content]
    if missing:
        raise ValueError(f"{where} lacks {', '.join(missing)}.")
    hints = typing.get_type_hints(cls)
    values = {name: convert(hints[name], value, where=f"{where}.{name}") for name, value in content.items()}
    try:
        return cls(**values)
    except ValueError as error:
        raise ValueError(f"{where}.{error}") from error


def check_names(content: Mapping[str, Any], known: Sequence[str], *, where: str) -> None:
    """Raises ValueError if `content` has names that are not in `known`."""
    unknown = [str(name) for name in content if name not in known]
    if unknown:
        raise ValueError(f"{where} has no field {', '.join(unknown)}. Available: {', '.join(known)}.")


def names(cls: type) -> list[str]:
    """Returns the names of the fields that the constructor of a dataclass accepts."""
    return [field.name for field in dataclasses.fields(cls) if field.init]


def required_names(cls: type) -> list[str]:
    """Returns the names of the fields that the constructor of a dataclass requires."""
    unset = dataclasses.MISSING
    return [
        field.name
        for field in dataclasses.fields(cls)
        if field.init and field.default is unset and field.default_factory is unset
    ]


def convert(annotation: Any, value: Any, *, where: str) -> Any:
    """Converts a value to its annotated type.

    Args:
      annotation: The declared type.
      value: The value, for example from JSON.
      where: Name of the value for error messages, such as "config.optimizer.b1".

    Raises:
      ValueError: If the value has another type.
    """
    options = _options(annotation)
    for option in options:
        if _is_of(option, value):
            return _converted(option, value, where)
    expected = " or ".join(dict.fromkeys(describe(option) for option in options))
    raise ValueError(f"{where} must be {expected}, got {value!r}.")


def convert_text(annotation: Any, text: str, *, where: str) -> Any:
    """Converts command-line text to the annotated type.

    Strings need no quotes. Everything else is written as a Python literal.

    Args:
      annotation: The declared type.
      text: The text.
      where: Name of the value for error messages.

    Raises:
      ValueError: If the text does not represent a value of the type.
    """
    options = _options(annotation)
    if text == "None" and type(None) in options:
        return None
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = text
    if not any(_is_of(option, value) for option in options) and str in options:
        value = text
    return convert(annotation, value, where=where)


def to_json(value: Any) -> Any:
    """Converts dataclasses and tuples, at any depth, to the dicts and lists that JSON can represent."""
    if dataclasses.is_dataclass(value):
        return {field.name: to_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {name: to_json(item) for name, item in value.items()}
    return [to_json(item) for item in value] if isinstance(value, tuple | list) else value


_NUMBERS = {int: numbers.Integral, float: numbers.Real}  # including NumPy scalars
_NAMES = {str: "a string", int: "an integer", float: "a number", bool: "True or False", type(None): "None"}


def describe(option: Any) -> str:
    """Describes a type for an error message."""
    origin, arguments = typing.get_origin(option), typing.get_args(option)
    if origin is Literal:
        return " or ".join(map(repr, arguments))
    if origin is tuple:
        items = [describe(item).removeprefix("an ").removeprefix("a ") for item in arguments if item is not ...]
        count = "" if ... in arguments else f" of {len(arguments)}"
        return f"a list{count} ({', '.join(dict.fromkeys(items))})"
    if option in _NAMES:
        return _NAMES[option]
    return "a mapping of fields"


def _options(annotation: Any) -> tuple[Any, ...]:
    """Returns the members of a union, or the type itself."""
    if typing.get_origin(annotation) in (Union, types.UnionType):
        return tuple(member for option in typing.get_args(annotation) for member in _options(option))
    return (annotation,)


def _is_of(option: Any, value: Any) -> bool:
    origin, arguments = typing.get_origin(option), typing.get_args(option)
    if option is Any:
        return True
    if origin is Literal:
        return value in arguments
    if origin is tuple:
        items = arguments[:1] * len(value) if ... in arguments and isinstance(value, list | tuple) else arguments
        return (
            isinstance(value, list | tuple)
            and len(value) == len(items)
            and all(any(_is_of(kind, part) for kind in _options(item)) for item, part in zip(items, value, strict=True))
        )
    if dataclasses.is_dataclass(option):
        return isinstance(value, option | Mapping)
    if option in _NUMBERS:
        return isinstance(value, _NUMBERS[option]) and not isinstance(value, bool)
    cls = origin or option
    return isinstance(value, cls) if isinstance(cls, type) else True


def _converted(option: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(option), typing.get_args(option)
    if origin is tuple:
        items = arguments[:1] * len(value) if ... in arguments else arguments
        return tuple(convert(item, part, where=where) for item, part in zip(items, value, strict=True))
    if dataclasses.is_dataclass(option) and not isinstance(value, option):
        return parse(option, value, where=where)
    if isinstance(origin, type) and issubclass(origin, Mapping) and len(arguments) == 2:
        return {name: convert(arguments[1], item, where=f"{where}.{name}") for name, item in value.items()}
    return option(value) if option in _NUMBERS else value
