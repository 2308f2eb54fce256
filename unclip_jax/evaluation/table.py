"""Tables of results: their columns, and the lines of one result."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal

Result = Mapping[str, Any]  # the result of a measure; contains only what JSON can hold
Line = Mapping[str, str]  # the cells of a line by column; a missing cell is empty


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of a Markdown table. Longer cells are not truncated."""

    name: str
    width: int
    align: Literal["<", ">"] = "<"


@dataclasses.dataclass(frozen=True)
class Table:
    """The columns of a table and the function that formats a result for them.

    Consecutive measures with equal columns share one table.

    Attributes:
      lines: Returns the lines of a result, given the measure's name and the result.
    """

    columns: tuple[Column, ...]
    lines: Callable[[str, Result], list[Line]]


VALUE_COLUMNS = (Column("measure", 20), Column("value", 5))


def value_table(text: Callable[[Result], str]) -> Table:
    """Returns the table with the columns "measure" and "value", in which `text(result)` is the value."""
    return Table(VALUE_COLUMNS, lambda name, result: [{"measure": name, "value": text(result)}])


def percent(share: float) -> str:
    """Returns a share in [0, 1] as a percentage with one decimal."""
    return f"{100 * share:.1f} %"
