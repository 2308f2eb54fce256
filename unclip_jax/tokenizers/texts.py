"""Check of the texts that are passed to a tokenizer."""

from collections.abc import Sequence


def check_texts(texts: Sequence[str]) -> None:
    """Raises ValueError for a single string, whose characters would be encoded as separate texts."""
    if isinstance(texts, str):
        raise ValueError(f"texts must be a list of strings, got the string {texts!r}.")
