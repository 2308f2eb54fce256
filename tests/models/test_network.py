"""Construction of networks from the fields of a config, and the errors for invalid fields."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unclip_jax.models.network import build, default_fields, fields_of, parameter_shapes
from unclip_jax.models.unet import UNet


class Affine(nn.Module):
    """Network with a field of every checked type and one of an unchecked type."""

    width: int
    size: int | tuple[int, int]
    rate: float = 0.5
    name_of_norm: str | None = None
    bias: bool = True
    factors: tuple[float, ...] = (1, 2)
    sides: tuple[tuple[int, int], ...] = ()
    anything: Any = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.width, use_bias=self.bias, dtype=self.dtype, name="linear")(x)

    def example_inputs(self):
        return {"x": jnp.zeros((1, 3))}


REQUIRED = {"width": 4, "size": 8}


def test_build_converts_nested_lists_to_tuples():
    module = build(Affine, REQUIRED | {"size": [8, 16], "factors": [0.5, 1], "sides": [[1, 2], [3, 4]]})
    assert module.size == (8, 16) and module.factors == (0.5, 1) and module.sides == ((1, 2), (3, 4))
    assert hash(module) == hash(Affine(4, (8, 16), factors=(0.5, 1), sides=((1, 2), (3, 4))))


def test_build_sets_the_compute_dtype():
    assert build(Affine, REQUIRED).dtype == jnp.float32
    assert build(Affine, REQUIRED, dtype=jnp.bfloat16).dtype == jnp.bfloat16


@pytest.mark.parametrize(
    "fields",
    [
        {"rate": 1}, {"width": np.int64(3)}, {"rate": np.float32(0.5)}, {"name_of_norm": "group"},
        {"name_of_norm": None}, {"bias": False}, {"factors": []}, {"factors": (1, 0.5)}, {"size": (8, 16)},
        {"anything": {"a": 1}}, {"anything": "x"},
    ],
)  # fmt: skip
def test_build_accepts_every_value_of_the_annotated_type(fields):
    module = build(Affine, REQUIRED | fields)
    name, value = next(iter(fields.items()))
    assert getattr(module, name) == (tuple(value) if isinstance(value, list) else value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"width": "x"}, "model.width must be an integer, got 'x'."),
        ({"width": 1.5}, "model.width must be an integer, got 1.5."),
        ({"width": True}, "model.width must be an integer, got True."),
        ({"width": None}, "model.width must be an integer, got None."),
        ({"width": [4]}, "model.width must be an integer, got [4]."),
        ({"rate": "0.1"}, "model.rate must be a number, got '0.1'."),
        ({"rate": False}, "model.rate must be a number, got False."),
        ({"bias": 1}, "model.bias must be True or False, got 1."),
        ({"name_of_norm": 3}, "model.name_of_norm must be a string or None, got 3."),
        ({"factors": "1,2"}, "model.factors must be a list (number), got '1,2'."),
        ({"factors": 2}, "model.factors must be a list (number), got 2."),
        ({"factors": [1, "a"]}, "model.factors must be a list (number), got [1, 'a']."),
        ({"size": [8, 16, 3]}, "model.size must be an integer or a list of 2 (integer), got [8, 16, 3]."),
        ({"size": [8, 0.5]}, "model.size must be an integer or a list of 2 (integer), got [8, 0.5]."),
        ({"sides": [[1, 2], [3]]}, "model.sides must be a list (list of 2 (integer)), got [[1, 2], [3]]."),
    ],
)
def test_build_rejects_a_field_of_the_wrong_type(fields, message):
    with pytest.raises(ValueError) as error:
        build(Affine, REQUIRED | fields)
    assert str(error.value) == message


KNOWN = "width, size, rate, name_of_norm, bias, factors, sides, anything"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"widht": 4, "size": 8}, f"model has no field widht. Available: {KNOWN}."),
        (REQUIRED | {"b": 1, "a": 1}, f"model has no field a, b. Available: {KNOWN}."),
        (REQUIRED | {1: 1, "a": 1}, f"model has no field 1, a. Available: {KNOWN}."),
        # Fields that a config cannot set.
        (REQUIRED | {"dtype": "float32"}, f"model has no field dtype. Available: {KNOWN}."),
        (REQUIRED | {"name": "x", "parent": None}, f"model has no field name, parent. Available: {KNOWN}."),
        ({"size": 8}, "model lacks width."),
        ({}, "model lacks width, size."),
    ],
)
def test_build_rejects_unknown_and_missing_fields(fields, message):
    with pytest.raises(ValueError) as error:
        build(Affine, fields)
    assert str(error.value) == message


def test_build_error_names_the_source_of_the_fields():
    with pytest.raises(ValueError, match="^config.model has no field x"):
        build(Affine, REQUIRED | {"x": 1}, where="config.model")
    with pytest.raises(ValueError, match="^config.model lacks size"):
        build(Affine, {"width": 4}, where="config.model")
    with pytest.raises(ValueError, match="^config.model.width must be an integer"):
        build(Affine, REQUIRED | {"width": "4"}, where="config.model")


def test_default_fields_are_the_optional_settable_fields():
    expected = {"rate": 0.5, "name_of_norm": None, "bias": True, "factors": (1, 2), "sides": (), "anything": None}
    assert default_fields(Affine) == expected


def test_fields_of_a_module_rebuild_it():
    module = build(Affine, REQUIRED | {"size": [8, 16], "rate": 0.25}, dtype=jnp.bfloat16)
    assert fields_of(module) == default_fields(Affine) | {"width": 4, "size": (8, 16), "rate": 0.25}
    assert build(Affine, fields_of(module), dtype=jnp.bfloat16) == module


def test_build_accepts_and_checks_inherited_fields():
    assert build(UNet, {"image_size": 8, "channel_mult": [1, 2]}) == UNet(8, channel_mult=(1, 2))
    with pytest.raises(ValueError, match=r"^model.channel_mult must be a list \(number\), got '1,2'.$"):
        build(UNet, {"image_size": 8, "channel_mult": "1,2"})


def test_parameter_shapes_are_float32_and_allocate_nothing():
    width = 2**31 - 1  # a kernel of 26 GB
    shapes = parameter_shapes(build(Affine, REQUIRED | {"width": width}, dtype=jnp.bfloat16))
    kernel, bias = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((3, width), (width,)))
    assert shapes == {"linear": {"kernel": kernel, "bias": bias}}
