"""What an error says, where it becomes part of another message."""

from typing import Any


def first_line(error: Any) -> str:
    """The first line of an error's message, of at most 400 characters; the error's kind where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:400]
