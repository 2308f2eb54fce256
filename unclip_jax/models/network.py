"""Complete networks: the protocol that they follow, and building one from the fields of a config."""

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from flax import linen as nn

from unclip_jax.arrays import PyTree
from unclip_jax.fields import convert

# Fields of every network that a config does not set. The compute dtype depends on the machine.
_NOT_SETTABLE = ("parent", "name", "dtype")


class Network(Protocol):
    """A linen module with a field `dtype` that states the inputs it is initialized with."""

    dtype: Any

    def init(self, rngs: Any, **inputs: PyTree) -> PyTree:
        """Returns initial variables, with the parameters under "params"."""

    def apply(self, variables: PyTree, **inputs: PyTree) -> PyTree:
        """Returns the output for the inputs."""

    def example_inputs(self) -> dict[str, PyTree]:
        """Returns one row of each input that the fields require, by the argument names of `__call__`."""


def build(
    network: type[nn.Module], fields: Mapping[str, Any], *, dtype: Any = jnp.float32, where: str = "model"
) -> nn.Module:
    """Builds a network from the fields of a config or a JSON file.

    Args:
      network: The network's class.
      fields: Its fields. Lists represent tuples.
      dtype: Type of the computation (see `precision`).
      where: Name of the fields in error messages.

    Raises:
      ValueError: If a field is unknown, missing or of the wrong type.
    """
    known = _settable(network)
    unknown = sorted(str(name) for name in fields if name not in known)
    if unknown:
        raise ValueError(f"{where} has no field {', '.join(unknown)}; known: {', '.join(known)}.")
    missing = [name for name in known if name not in {**default_fields(network), **fields}]
    if missing:
        raise ValueError(f"{where} lacks {', '.join(missing)}.")
    hints = typing.get_type_hints(network)
    for name, value in fields.items():
        convert(hints[name], value, where=f"{where}.{name}")  # only checked: an int stays one where a float may be
    return network(**{name: _with_tuples(value) for name, value in fields.items()}, dtype=dtype)


def default_fields(network: type[nn.Module]) -> dict[str, Any]:
    """Returns the fields that a config may leave out, with their defaults."""
    return {
        name: field.default for name, field in _settable(network).items() if field.default is not dataclasses.MISSING
    }


def field_types(network: type[nn.Module]) -> dict[str, Any]:
    """Returns the annotations of the fields that a config may set."""
    hints = typing.get_type_hints(network)
    return {name: hints[name] for name in _settable(network)}


def fields_of(module: nn.Module) -> dict[str, Any]:
    """Returns the values of all fields that a config may set."""
    return {name: getattr(module, name) for name in _settable(type(module))}


def parameter_shapes(module: Network) -> PyTree:
    """Returns the shape and dtype of every parameter without computing any."""
    return jax.eval_shape(lambda: module.init(jax.random.key(0), **module.example_inputs()))["params"]


def _settable(network: type[nn.Module]) -> dict[str, dataclasses.Field]:
    return {field.name: field for field in dataclasses.fields(network) if field.name not in _NOT_SETTABLE}


def _with_tuples(value: Any) -> Any:
    return tuple(map(_with_tuples, value)) if isinstance(value, list | tuple) else value
