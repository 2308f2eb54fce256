"""Schema versions of files, which allow files of a newer version of this package to be rejected."""

from typing import Any


class NewerSchema(ValueError):  # noqa: N818
    """Error for a file that is intact but was written by a newer version of unclip_jax."""


def check_schema(schema: Any, known: int, what: str) -> None:
    """Checks that a file was not written by a newer version of unclip_jax.

    Args:
      schema: The schema version in the file. Values that are not integers are ignored.
      known: The latest version that this code reads.
      what: Description of the file for the error message.

    Raises:
      NewerSchema: If `schema` is greater than `known`.
    """
    if isinstance(schema, int) and schema > known:
        raise NewerSchema(
            f"{what} was written by a newer version of unclip_jax: schema must be at most {known}, got {schema}. "
            f"Upgrade unclip_jax to a version that reads schema {schema}."
        )
