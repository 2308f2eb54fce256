"""Schema versions of files: content that a newer version of this package wrote is refused, never misread."""

from typing import Any


class NewerSchema(ValueError):
    """A file of a newer version of unclip_jax, which is intact but cannot be read."""


def check_schema(schema: Any, known: int, what: str) -> None:
    """Raises NewerSchema if `schema`, as read from `what`, is a version after `known`. Other values are ignored."""
    if isinstance(schema, int) and schema > known:
        raise NewerSchema(
            f"{what} was written by a newer version of unclip_jax: it has schema {schema} and must have {known}. "
            f"Upgrade unclip_jax to a version that reads schema {schema}."
        )
