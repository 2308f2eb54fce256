"""Error messages: the one form for an unknown name, and the text of an error that becomes part of another message."""

from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")


def choose(table: Mapping[str, T], name: str, what: str) -> T:
    """Returns `table[name]`.

    Args:
      what: What the names stand for, such as "noise schedule".

    Raises:
      ValueError: If the name is unknown. The message lists the known names.
    """
    if not isinstance(name, str) or name not in table:
        raise unknown(what, name, ", ".join(table))
    return table[name]


def unknown(what: str, name: Any, available: str, *, where: str | None = None) -> ValueError:
    """Returns the error for a name that is not known.

    Args:
      available: The known names, listed.
      where: The file or setting that contains the name.
    """
    place = "" if where is None else f" in {where}"
    return ValueError(f"Unknown {what} {name!r}{place}. Available: {available}.")


def first_line(error: Any) -> str:
    """Returns the first line of an error's message, at most 400 characters; its type's name if the message is empty."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:400]
