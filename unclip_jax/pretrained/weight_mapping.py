"""From the tensors of a published file to the parameters of a network here, by declared correspondences.

A rule says of which tensors a parameter is made, and how their axes lie in it, in einops' notation:

    Rule("text/projection/kernel", "text_projection")
    Rule("image/patch_embedding/kernel", "visual.conv1.weight", "o i h w -> h w i o")
    Rule("blocks/mlp_in/kernel", "resblocks.{layer}.mlp.c_fc.weight", "o i -> i o", layers=12)
    Rule("attention/qkv/kernel", ("q.weight", "k.weight", "v.weight"), "p (n k) i -> i p n k", {"n": 8})

Several tensors are the first axis of the pattern's left side. `{layer}` stands for 0, 1, ..., and the layers become the
first axis of the parameter, as a scanned transformer has it.
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
from unclip_jax.pretrained.stored_tensor import StoredTensor


@dataclasses.dataclass(frozen=True)
class Rule:
    """One parameter.

    Args:
      target: its path, such as "text/projection/kernel".
      sources: the tensor's name, or those of several.
      axes: where their axes go; "" leaves them as they are.
      sizes: of axes that the shapes do not tell; None: they tell all.
      layers: how many values `{layer}` takes; None: it does not occur.
    """

    target: str
    sources: str | tuple[str, ...]
    axes: str = ""
    sizes: Mapping[str, int] | None = None
    layers: int | None = None

    def names(self) -> list[list[str]]:
        """The tensors of each layer; of the only one where there are no layers."""
        sources = (self.sources,) if isinstance(self.sources, str) else self.sources
        return [[source.format(layer=layer) for source in sources] for layer in range(self.layers or 1)]

    def arrange(self, tensors: Sequence[np.ndarray]) -> np.ndarray:
        """The parameter, or one layer of it, as a view where it can be one."""
        whole = tensors[0] if isinstance(self.sources, str) else list(tensors)
        return einops.rearrange(whole, self.axes, **(self.sizes or {})) if self.axes else whole

    def separate(self, parameter: np.ndarray) -> list[np.ndarray]:
        """The tensors of which `arrange` makes this parameter, or one layer of it."""
        left, _, right = self.axes.partition("->")
        whole = einops.rearrange(parameter, f"{right} -> {left}", **(self.sizes or {})) if self.axes else parameter
        return [whole] if isinstance(self.sources, str) else list(whole)


def convert(
    tensors: Mapping[str, StoredTensor],
    rules: Iterable[Rule],
    expected: PyTree,
    *,
    what: str,
    place: parameters.Place | None = None,
) -> PyTree:
    """The parameters of which `expected` has the shapes, one after the other and each layer by layer: beside
    what is placed, the tensors of a layer or two of one of them lie in memory.

    Args:
      what: whose tensors these are, for messages.
      place: where the parameters go, and in which type; None: `parameters.on_host()`, float32.

    Raises ValueError that names every tensor that is missing, left over or of another shape than the network's.
    """
    rules, shapes = list(rules), parameters.flatten(expected)
    check(tensors, rules, expected, what=what)
    place = place or parameters.on_host()
    return parameters.unflatten(
        {rule.target: place(rule.target, shapes[rule.target].shape, _pieces(rule, tensors)) for rule in rules}
    )


def restore(params: PyTree, rules: Iterable[Rule]) -> dict[str, np.ndarray]:
    """The tensors of which `convert` makes these parameters, by their published names."""
    flat = parameters.flatten(params)
    tensors = {}
    for rule in rules:
        whole = np.asarray(flat[rule.target])
        for names, part in zip(rule.names(), whole[None] if rule.layers is None else whole, strict=True):
            tensors |= {name: np.asarray(x, order="C") for name, x in zip(names, rule.separate(part), strict=True)}
    return tensors


def check(tensors: Mapping[str, StoredTensor], rules: Sequence[Rule], expected: PyTree, *, what: str) -> None:
    """Raises the errors of `convert`, from names and shapes alone."""
    _check_names(tensors, rules, what)
    made = {rule.target: jax.ShapeDtypeStruct(_shape(rule, tensors, what), jnp.float32) for rule in rules}
    parameters.check(made, expected, what)


def _check_names(tensors: Mapping[str, StoredTensor], rules: Sequence[Rule], what: str) -> None:
    wanted = {name for rule in rules for names in rule.names() for name in names}
    missing, left = sorted(wanted - tensors.keys()), sorted(tensors.keys() - wanted)
    if not missing and not left:
        return
    said = [f"missing: {', '.join(missing)}"] if missing else []
    if left:
        near = difflib.get_close_matches(left[0], missing, 1)
        said.append(f"left over: {', '.join(left)}{f' (perhaps {near[0]})' if near else ''}")
    raise ValueError(f"{what} do not fit the network: {'; '.join(said)}")


def _shape(rule: Rule, tensors: Mapping[str, StoredTensor], what: str) -> tuple[int, ...]:
    """What shape the parameter will have, from shapes alone."""
    found = set()
    for names in rule.names():
        parts = [np.broadcast_to(np.float32(0), tensors[name].shape) for name in names]
        try:
            found.add(rule.arrange(parts).shape)
        except (einops.EinopsError, ValueError) as error:
            given = ", ".join(f"{name} {list(tensors[name].shape)}" for name in names)
            raise ValueError(f"{what}: {given} cannot become {rule.target} as {rule.axes!r}") from error
    if len(found) != 1:
        raise ValueError(f"{what}: the layers of {rule.target} are of different shapes: {sorted(found)}")
    (shape,) = found
    return shape if rule.layers is None else (rule.layers, *shape)


def _pieces(rule: Rule, tensors: Mapping[str, StoredTensor]) -> Iterator[np.ndarray]:
    """The parameter, one layer after the other; in one where there are no layers."""
    for names in rule.names():  # nothing has a name here: what is yielded is the taker's alone
        yield rule.arrange([tensors[name].read() for name in names])[None if rule.layers else ...]
