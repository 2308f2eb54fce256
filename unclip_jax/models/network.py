"""Protocol of a complete network, and construction of networks from the fields of a config."""

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from flax import linen as nn

from unclip_jax.arrays import PyTree
from unclip_jax.fields import convert

# Fields that a config cannot set. The compute dtype depends on the hardware.
_NOT_SETTABLE = ("parent", "name", "dtype")


class Network(Protocol):
    """Protocol of a linen module that provides example inputs for its initialization.

    Attributes:
      dtype: Compute dtype.
    """

    dtype: Any

    def init(self, rngs: Any, **inputs: PyTree) -> PyTree:
        """Initializes the variables, with the parameters under "params"."""

    def apply(self, variables: PyTree, **inputs: PyTree) -> PyTree:
        """Runs the network."""

    def example_inputs(self) -> dict[str, PyTree]:
        """Returns one row of every required input, by argument name of `__call__`."""


def build(
    network: type[nn.Module], fields: Mapping[str, Any], *, dtype: Any = jnp.float32, where: str = "model"
) -> nn.Module:
    """Builds a network from the fields of a config or a JSON file.

    Args:
      network: The network's class.
      fields: Its fields. Lists are converted to tuples.
      dtype: Compute dtype (see `precision`).
      where: Name of the fields for error messages.

    Raises:
      ValueError: If a field is unknown, missing or of the wrong type.
    """
    known = _settable(network)
    unknown = sorted(str(name) for name in fields if name not in known)
    if unknown:
        raise ValueError(f"{where} has no field {', '.join(unknown)}. Available: {', '.join(known)}.")
    missing = [name for name in known if name not in {**default_fields(network), **fields}]
    if missing:
        raise ValueError(f"{where} lacks {', '.join(missing)}.")
    hints = typing.get_type_hints(network)
    for name, value in fields.items():
        convert(hints[name], value, where=f"{where}.{name}")  # only a check: ints are not converted to float
    return network(**{name: _with_tuples(value) for name, value in fields.items()}, dtype=dtype)


def default_fields(network: type[nn.Module]) -> dict[str, Any]:
    """Returns the default values of the optional fields that a config may set."""
    return {
        name: field.default for name, field in _settable(network).items() if field.default is not dataclasses.MISSING
    }


def field_types(network: type[nn.Module]) -> dict[str, Any]:
    """Returns the type annotations of the fields that a config may set."""
    hints = typing.get_type_hints(network)
    return {name: hints[name] for name in _settable(network)}


def fields_of(module: nn.Module) -> dict[str, Any]:
    """Returns the values of all fields that a config may set."""
    return {name: getattr(module, name) for name in _settable(type(module))}


def parameter_shapes(module: Network) -> PyTree:
    """Returns the shapes and dtypes of all parameters without allocating them."""
    return jax.eval_shape(lambda: module.init(jax.random.key(0), **module.example_inputs()))["params"]


def _settable(network: type[nn.Module]) -> dict[str, dataclasses.Field]:
    return {field.name: field for field in dataclasses.fields(network) if field.name not in _NOT_SETTABLE}


def _with_tuples(value: Any) -> Any:
    return tuple(map(_with_tuples, value)) if isinstance(value, list | tuple) else value
