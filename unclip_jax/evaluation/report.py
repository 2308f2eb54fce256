"""Reports of results: Markdown tables that are printed line by line, and one JSON object."""

from collections.abc import Iterable, Mapping
from typing import Any

from unclip_jax.evaluation.suite import Measure
from unclip_jax.evaluation.table import Column, Line, Result


def table_lines(measure: Measure, result: Result, previous: Measure | None = None) -> list[str]:
    """Returns the lines that a result adds to the tables.

    Args:
      measure: The measure.
      result: Its result.
      previous: The preceding measure. If it is None or has other columns, a new table starts.
    """
    columns = measure.table.columns
    same_table = previous is not None and previous.table.columns == columns
    lines = [_line(columns, line) for line in measure.table.lines(measure.name, result)]
    return lines if same_table else ["", *_head(columns), *lines]


def as_json(results: Iterable[tuple[Measure, Result]], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns one JSON object with the settings and all results.

    Args:
      results: Measures with their results, which `Measure.to_json` converts.
      settings: Value of the key "settings".

    Raises:
      ValueError: If a measure adds a key that another one has added, unless both values are objects.
    """
    content: dict[str, Any] = {"settings": dict(settings)}
    for measure, result in results:
        for key, value in measure.to_json(measure.name, result).items():
            if key not in content:
                content[key] = value
            elif key != "settings" and isinstance(content[key], Mapping) and isinstance(value, Mapping):
                content[key] = {**content[key], **value}
            else:
                raise ValueError(f"measure {measure.name!r} must add a new key to the JSON object, got {key!r}.")
    return content


def _head(columns: tuple[Column, ...]) -> list[str]:
    rule = "|".join("-" * (column.width + 2) for column in columns)
    return [_line(columns, {column.name: column.name for column in columns}), f"|{rule}|"]


def _line(columns: tuple[Column, ...], line: Line) -> str:
    cells = (f"{line.get(column.name, ''):{column.align}{column.width}}" for column in columns)
    return f"| {' | '.join(cells)} |"
