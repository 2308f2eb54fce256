"""Shared error messages: unknown names, and one-line summaries of other errors."""

from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")


def choose(table: Mapping[str, T], name: str, what: str) -> T:
    """Returns the entry of a table with the given name.

    Args:
      table: The entries by name.
      name: Name of an entry.
      what: Noun for an entry in the message, such as "noise schedule".

    Raises:
      ValueError: If the name is unknown. The message lists the available names.
    """
    if not isinstance(name, str) or name not in table:
        raise unknown(what, name, ", ".join(table))
    return table[name]


def unknown(what: str, name: Any, available: str, *, where: str | None = None) -> ValueError:
    """Returns the error for an unknown name.

    Args:
      what: Noun for the named thing, such as "sampler".
      name: The unknown name.
      available: The known names as one string, separated by commas.
      where: The file or setting that contains the name. If None, the message does not mention it.
    """
    place = "" if where is None else f" in {where}"
    return ValueError(f"Unknown {what} {name!r}{place}. Available: {available}.")


def first_line(error: Any) -> str:
    """Returns the first line of an error message, at most 400 characters, or the error's type if empty."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:400]
