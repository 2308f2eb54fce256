"""Rules that convert published tensors to parameters of a network, and back.

A rule contains the names of the tensors of a parameter and the conversion of their axes, as a pattern of einops:

    Rule("text/projection/kernel", "text_projection")
    Rule("image/patch_embedding/kernel", "visual.conv1.weight", "o i h w -> h w i o")
    Rule("blocks/mlp_in/kernel", "resblocks.{layer}.mlp.c_fc.weight", "o i -> i o", layers=12)
    Rule("attention/qkv/kernel", ("q.weight", "k.weight", "v.weight"), "p (n k) i -> i p n k", {"n": 8})

Several tensors are stacked along the first axis of the left side. `{layer}` is replaced by 0, 1, ..., and the layers
are stacked along the first axis of the parameter, as in a scanned transformer.
"""

import dataclasses
import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence

import einops
import jax
import jax.numpy as jnp
import numpy as np

from unclip_jax import parameters
from unclip_jax.arrays import PyTree
from unclip_jax.pretrained.lazy_tensor import LazyTensor


@dataclasses.dataclass(frozen=True)
class Rule:
    """Conversion of one or more published tensors to one parameter.

    Attributes:
      target: Path of the parameter, such as "text/projection/kernel".
      sources: Name of the tensor, or names of several tensors.
      axes: Pattern of einops. If empty, the axes are unchanged.
      sizes: Sizes of axes that einops cannot infer from the shapes.
      layers: Number of layers, for names with `{layer}`. If None, the parameter is not stacked.
    """

    target: str
    sources: str | tuple[str, ...]
    axes: str = ""
    sizes: Mapping[str, int] | None = None
    layers: int | None = None

    def names(self) -> list[list[str]]:
        """Returns the names of the tensors, as one list per layer. A parameter without layers has one list."""
        sources = (self.sources,) if isinstance(self.sources, str) else self.sources
        return [[source.format(layer=layer) for source in sources] for layer in range(self.layers or 1)]

    def to_parameter(self, tensors: Sequence[np.ndarray]) -> np.ndarray:
        """Converts the tensors of the parameter, or of one layer of it. Returns a view if possible."""
        whole = tensors[0] if isinstance(self.sources, str) else list(tensors)
        return einops.rearrange(whole, self.axes, **(self.sizes or {})) if self.axes else whole

    def to_tensors(self, parameter: np.ndarray) -> list[np.ndarray]:
        """Inverts `to_parameter`."""
        left, _, right = self.axes.partition("->")
        whole = einops.rearrange(parameter, f"{right} -> {left}", **(self.sizes or {})) if self.axes else parameter
        return [whole] if isinstance(self.sources, str) else list(whole)


def import_params(
    tensors: Mapping[str, LazyTensor],
    rules: Iterable[Rule],
    expected: PyTree,
    *,
    what: str,
    place: parameters.Placement | None = None,
) -> PyTree:
    """Loads published tensors and converts them to parameters.

    Parameters are loaded one layer at a time. In addition to the placed parameters, memory therefore holds at most two
    copies of one layer.

    Args:
      tensors: The tensors by name.
      rules: One rule for every parameter.
      expected: Tree of the network's shapes.
      what: Description of the tensors for error messages, such as "weights of decoder in 'karlo'".
      place: Placement of the parameters. If None, they are float32 NumPy arrays.

    Raises:
      ValueError: If tensors are missing or unexpected (the message lists all of them), or if a tensor has the wrong
        shape.
    """
    rules, shapes = list(rules), parameters.flatten(expected)
    check(tensors, rules, expected, what=what)
    place = place or parameters.on_host()
    return parameters.unflatten(
        {rule.target: place(rule.target, shapes[rule.target].shape, _pieces(rule, tensors)) for rule in rules}
    )


def export_tensors(params: PyTree, rules: Iterable[Rule]) -> dict[str, np.ndarray]:
    """Converts parameters to published tensors, the inverse of `import_params`.

    Args:
      params: The parameters.
      rules: One rule for every parameter.

    Returns:
      The tensors by published name.
    """
    flat = parameters.flatten(params)
    tensors = {}
    for rule in rules:
        whole = np.asarray(flat[rule.target])
        for names, part in zip(rule.names(), whole[None] if rule.layers is None else whole, strict=True):
            tensors |= {name: np.asarray(x, order="C") for name, x in zip(names, rule.to_tensors(part), strict=True)}
    return tensors


def check(tensors: Mapping[str, LazyTensor], rules: Sequence[Rule], expected: PyTree, *, what: str) -> None:
    """Checks that published tensors match a network.

    Only names and shapes are read.

    Args:
      tensors: The tensors by name.
      rules: One rule for every parameter.
      expected: Tree of the network's shapes.
      what: Description of the tensors for error messages.

    Raises:
      ValueError: If a tensor is missing, unexpected or has the wrong shape.
    """
    _check_names(tensors, rules, what)
    actual = {rule.target: jax.ShapeDtypeStruct(_shape(rule, tensors, what), jnp.float32) for rule in rules}
    parameters.check(actual, expected, what)


def _check_names(tensors: Mapping[str, LazyTensor], rules: Sequence[Rule], what: str) -> None:
    expected = {name for rule in rules for names in rule.names() for name in names}
    missing, unexpected = sorted(expected - tensors.keys()), sorted(tensors.keys() - expected)
    if not missing and not unexpected:
        return
    problems = [f"Missing: {', '.join(missing)}."] if missing else []
    if unexpected:
        similar = difflib.get_close_matches(unexpected[0], missing, 1)
        hint = f" (similar to the missing {similar[0]})" if similar else ""
        problems.append(f"Unexpected: {', '.join(unexpected)}{hint}.")
    raise ValueError(f"{what} do not match the network. {' '.join(problems)}")


def _shape(rule: Rule, tensors: Mapping[str, LazyTensor], what: str) -> tuple[int, ...]:
    """Returns the shape of the parameter of a rule."""
    shapes = set()
    for names in rule.names():
        parts = [np.broadcast_to(np.float32(0), tensors[name].shape) for name in names]
        try:
            shapes.add(rule.to_parameter(parts).shape)
        except (einops.EinopsError, ValueError) as error:
            actual = ", ".join(f"{name} {list(tensors[name].shape)}" for name in names)
            raise ValueError(f"{what} cannot be converted to {rule.target} by {rule.axes!r}: got {actual}.") from error
    if len(shapes) != 1:
        raise ValueError(f"{what} must have the same shape in all layers of {rule.target}, got {sorted(shapes)}.")
    (shape,) = shapes
    return shape if rule.layers is None else (rule.layers, *shape)


def _pieces(rule: Rule, tensors: Mapping[str, LazyTensor]) -> Iterator[np.ndarray]:
    """Yields the parameter layer by layer, or in one piece if it has no layers."""
    for names in rule.names():  # do not assign the result to a variable, which would keep it in memory
        yield rule.to_parameter([tensors[name].read() for name in names])[None if rule.layers else ...]
