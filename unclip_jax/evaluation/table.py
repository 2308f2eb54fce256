"""Columns and lines of Markdown tables of results."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal

Result = Mapping[str, Any]  # result of a measure, JSON-serializable
Line = Mapping[str, str]  # cells of a line by column name; missing cells are empty


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of a Markdown table.

    Attributes:
      name: Header of the column.
      width: Minimum width of the cells in characters. Longer cells are not truncated.
      align: "<" aligns cells to the left, ">" to the right.
    """

    name: str
    width: int
    align: Literal["<", ">"] = "<"


@dataclasses.dataclass(frozen=True)
class Table:
    """The columns of a table, and the function that formats a result for them.

    Consecutive measures with the same columns share one table.

    Attributes:
      columns: The columns.
      lines: Returns the lines for a measure's name and result.
    """

    columns: tuple[Column, ...]
    lines: Callable[[str, Result], list[Line]]


VALUE_COLUMNS = (Column("metric", 20), Column("value", 5))


def value_table(text: Callable[[Result], str]) -> Table:
    """Returns a table with the columns "metric" and "value", which formats a result as `text(result)`."""
    return Table(VALUE_COLUMNS, lambda name, result: [{"metric": name, "value": text(result)}])


def percent(fraction: float) -> str:
    """Formats a fraction in [0, 1] as a percentage with one decimal."""
    return f"{100 * fraction:.1f}%"
