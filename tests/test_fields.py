"""Parsing of dataclasses from mappings and text, and one-line errors for invalid input."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import pytest

from unclip_jax import fields


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inner:
    size: int | tuple[int, int]
    scale: float = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outer:
    name: str
    inner: Inner
    mode: Literal["a", "b"] = "a"
    widths: tuple[float, ...] = ()
    flag: bool = False
    limit: float | None = None
    named: Mapping[str, Inner] = dataclasses.field(default_factory=dict)
    anything: Any = None

    def __post_init__(self):
        if self.name == "bad":
            raise ValueError("name must not be 'bad'.")


def parse(**content) -> Outer:
    return fields.parse(Outer, {"name": "x", "inner": {"size": 3}, **content}, where="config.outer")


def test_parse_converts_values_to_declared_types():
    parsed = parse(inner={"size": [2, 3], "scale": 2}, widths=[1, 2.5], limit=5, named={"k": {"size": 1}}, anything=[1])
    assert parsed == Outer(
        name="x",
        inner=Inner(size=(2, 3), scale=2.0),
        widths=(1.0, 2.5),
        limit=5.0,
        named={"k": Inner(size=1)},
        anything=[1],
    )
    assert isinstance(parsed.inner.scale, float) and isinstance(parsed.widths[0], float)


def test_to_json_and_parse_are_inverse():
    parsed = parse(inner={"size": [2, 3]}, widths=[1.0], named={"k": {"size": 1}})
    assert fields.parse(Outer, fields.to_json(parsed), where="x") == parsed
    assert fields.to_json(parsed)["inner"] == {"size": [2, 3], "scale": 1.0}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"nme": 1}, "outer has no field nme. Available: name, inner, mode, widths, flag, limit, named, anything."),
        ({"inner": {}}, "config.outer.inner lacks size."),
        ({"inner": {"size": 1, "sz": 2}}, "config.outer.inner has no field sz. Available: size, scale."),
        ({"inner": {"size": 1.5}}, "config.outer.inner.size must be an integer or a list of 2 (integer), got 1.5."),
        ({"inner": {"size": [1, 2, 3]}}, "inner.size must be an integer or a list of 2 (integer), got [1, 2, 3]."),
        ({"inner": {"size": True}}, "config.outer.inner.size must be an integer or a list of 2 (integer), got True."),
        ({"inner": 3}, "config.outer.inner must be a mapping of fields, got 3."),
        ({"name": None}, "config.outer.name must be a string, got None."),
        ({"name": "bad"}, "config.outer.name must not be 'bad'."),
        ({"mode": "c"}, "config.outer.mode must be 'a' or 'b', got 'c'."),
        ({"widths": ["x"]}, "config.outer.widths must be a list (number), got ['x']."),
        ({"widths": "12"}, "config.outer.widths must be a list (number), got '12'."),
        ({"flag": 1}, "config.outer.flag must be True or False, got 1."),
        ({"limit": "5"}, "config.outer.limit must be a number or None, got '5'."),
        ({"named": {"k": {}}}, "config.outer.named.k lacks size."),
    ],
)  # fmt: skip
def test_parse_rejects_invalid_fields_with_one_line(content, message):
    with pytest.raises(ValueError) as error:
        parse(**content)
    assert str(error.value).endswith(message) and "\n" not in str(error.value)


@pytest.mark.parametrize("content", [None, 3, "x", [1]])
def test_parse_rejects_content_that_is_not_a_mapping(content):
    with pytest.raises(ValueError, match="^config must be a mapping of fields, got"):
        fields.parse(Inner, content, where="config")


@pytest.mark.parametrize(
    ("annotation", "text", "value"),
    [
        (str, "abc", "abc"),
        (str, "12", "12"),
        (str, "'quoted'", "quoted"),
        (str | None, "None", None),
        (int, "12", 12),
        (float, "1", 1.0),
        (float, "1e-4", 1e-4),
        (bool, "True", True),
        (tuple[int, ...], "(1, 2)", (1, 2)),
        (int | str, "5", 5),
        (int | str, "fast27", "fast27"),
        (float | None, "None", None),
    ],
)
def test_convert_text_converts_to_the_declared_type(annotation, text, value):
    read = fields.convert_text(annotation, text, where="x")
    assert read == value and type(read) is type(value)


@pytest.mark.parametrize(("annotation", "text"), [(int, "many"), (int, "1.5"), (bool, "1"), (float, "None")])
def test_convert_text_rejects_text_of_another_type(annotation, text):
    with pytest.raises(ValueError, match=r"^--x must be .*, got"):
        fields.convert_text(annotation, text, where="--x")


def test_parse_converts_numpy_scalars_to_python_numbers():
    import json

    import numpy as np

    parsed = fields.parse(Inner, {"size": np.int64(5), "scale": np.float32(0.5)}, where="x")
    assert json.loads(json.dumps(fields.to_json(parsed))) == {"size": 5, "scale": 0.5}
