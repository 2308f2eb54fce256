"""Rules that turn the tensors of a published file into the parameters of a network, and back.

A rule names the tensors of a parameter and how their axes are arranged, in the notation of einops:

    Rule("text/projection/kernel", "text_projection")
    Rule("image/patch_embedding/kernel", "visual.conv1.weight", "o i h w -> h w i o")
    Rule("blocks/mlp_in/kernel", "resblocks.{layer}.mlp.c_fc.weight", "o i -> i o", layers=12)
    Rule("attention/qkv/kernel", ("q.weight", "k.weight", "v.weight"), "p (n k) i -> i p n k", {"n": 8})

Several tensors are stacked along the first axis of the left side. `{layer}` stands for 0, 1, ..., and the layers become
the first axis of the parameter, as in a scanned transformer.
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
    """One parameter and its tensors.

    Attributes:
      target: Path of the parameter, such as "text/projection/kernel".
      sources: Name of the tensor, or names of several.
      axes: Pattern of einops. If empty, the axes stay as they are.
      sizes: Sizes of axes that cannot be derived from the shapes.
      layers: Number of values of `{layer}`. If None, it does not occur.
    """

    target: str
    sources: str | tuple[str, ...]
    axes: str = ""
    sizes: Mapping[str, int] | None = None
    layers: int | None = None

    def names(self) -> list[list[str]]:
        """Returns the names of the tensors of each layer, or of the only one."""
        sources = (self.sources,) if isinstance(self.sources, str) else self.sources
        return [[source.format(layer=layer) for source in sources] for layer in range(self.layers or 1)]

    def to_parameter(self, tensors: Sequence[np.ndarray]) -> np.ndarray:
        """Returns the parameter, or one layer of it, as a view if possible."""
        whole = tensors[0] if isinstance(self.sources, str) else list(tensors)
        return einops.rearrange(whole, self.axes, **(self.sizes or {})) if self.axes else whole

    def to_tensors(self, parameter: np.ndarray) -> list[np.ndarray]:
        """Inverts `to_parameter`, for the parameter or one layer of it."""
        left, _, right = self.axes.partition("->")
        whole = einops.rearrange(parameter, f"{right} -> {left}", **(self.sizes or {})) if self.axes else parameter
        return [whole] if isinstance(self.sources, str) else list(whole)


def import_params(
    tensors: Mapping[str, LazyTensor],
    rules: Iterable[Rule],
    expected: PyTree,
    *,
    what: str,
    place: parameters.Place | None = None,
) -> PyTree:
    """Returns parameters made of published tensors.

    Parameters are loaded one at a time and layer by layer, so memory holds at most two copies of one layer in addition
    to what is placed.

    Args:
      tensors: The tensors by name.
      rules: One rule for every parameter.
      expected: Shapes of the parameters.
      what: Noun for the tensors in messages.
      place: Puts a parameter in its place, in its type. If None, `parameters.on_host()`, which is float32.

    Raises:
      ValueError: If a tensor is missing, unexpected or of the wrong shape; all such tensors are named.
    """
    rules, shapes = list(rules), parameters.flatten(expected)
    check(tensors, rules, expected, what=what)
    place = place or parameters.on_host()
    return parameters.unflatten(
        {rule.target: place(rule.target, shapes[rule.target].shape, _pieces(rule, tensors)) for rule in rules}
    )


def export_tensors(params: PyTree, rules: Iterable[Rule]) -> dict[str, np.ndarray]:
    """Returns the tensors by published name from which `import_params` makes these parameters."""
    flat = parameters.flatten(params)
    tensors = {}
    for rule in rules:
        whole = np.asarray(flat[rule.target])
        for names, part in zip(rule.names(), whole[None] if rule.layers is None else whole, strict=True):
            tensors |= {name: np.asarray(x, order="C") for name, x in zip(names, rule.to_tensors(part), strict=True)}
    return tensors


def check(tensors: Mapping[str, LazyTensor], rules: Sequence[Rule], expected: PyTree, *, what: str) -> None:
    """Raises the errors of `import_params`. Only names and shapes are read."""
    _check_names(tensors, rules, what)
    actual = {rule.target: jax.ShapeDtypeStruct(_shape(rule, tensors, what), jnp.float32) for rule in rules}
    parameters.check(actual, expected, what)


def _check_names(tensors: Mapping[str, LazyTensor], rules: Sequence[Rule], what: str) -> None:
    expected = {name for rule in rules for names in rule.names() for name in names}
    missing, left = sorted(expected - tensors.keys()), sorted(tensors.keys() - expected)
    if not missing and not left:
        return
    complaints = [f"missing: {', '.join(missing)}"] if missing else []
    if left:
        near = difflib.get_close_matches(left[0], missing, 1)
        complaints.append(f"left over: {', '.join(left)}{f' (perhaps {near[0]})' if near else ''}")
    raise ValueError(f"{what} do not fit the network: {'; '.join(complaints)}")


def _shape(rule: Rule, tensors: Mapping[str, LazyTensor], what: str) -> tuple[int, ...]:
    """Returns the shape of the parameter."""
    shapes = set()
    for names in rule.names():
        parts = [np.broadcast_to(np.float32(0), tensors[name].shape) for name in names]
        try:
            shapes.add(rule.to_parameter(parts).shape)
        except (einops.EinopsError, ValueError) as error:
            actual = ", ".join(f"{name} {list(tensors[name].shape)}" for name in names)
            raise ValueError(f"{what}: {actual} cannot become {rule.target} as {rule.axes!r}") from error
    if len(shapes) != 1:
        raise ValueError(f"{what}: the layers of {rule.target} have different shapes: {sorted(shapes)}")
    (shape,) = shapes
    return shape if rule.layers is None else (rule.layers, *shape)


def _pieces(rule: Rule, tensors: Mapping[str, LazyTensor]) -> Iterator[np.ndarray]:
    """Yields the parameter layer by layer, or in one piece if it has no layers."""
    for names in rule.names():  # no variable may refer to what is yielded: only the caller keeps it in memory
        yield rule.to_parameter([tensors[name].read() for name in names])[None if rule.layers else ...]
