"""Rules for PyTorch's layers, and sizes derived from the names and shapes of tensors.

All functions that return rules take the path of the layer (`target`), its published name (`source`), the number of
attention heads if it has any (`heads`), and the number of stacked layers (`layers`, see `rules.Rule`).
"""

from collections.abc import Mapping
from typing import TypeVar

import numpy as np

from unclip_jax.pretrained.lazy_tensor import LazyTensor
from unclip_jax.pretrained.rules import Rule

T = TypeVar("T")


def dense(target: str, source: str, layers: int | None = None) -> list[Rule]:
    """Returns the rules of a linear layer: [out, in] becomes [in, out]."""
    return [
        Rule(f"{target}/kernel", f"{source}.weight", "o i -> i o", layers=layers),
        Rule(f"{target}/bias", f"{source}.bias", layers=layers),
    ]


def convolution(target: str, source: str) -> list[Rule]:
    """Returns the rules of a 2D convolution: [out, in, height, width] becomes [height, width, in, out]."""
    return [
        Rule(f"{target}/kernel", f"{source}.weight", "o i h w -> h w i o"),
        Rule(f"{target}/bias", f"{source}.bias"),
    ]


def pixel_dense(target: str, source: str) -> list[Rule]:
    """Returns the rules of a linear layer over channels, published as a 1x1 convolution."""
    return [Rule(f"{target}/kernel", f"{source}.weight", "o i 1 1 -> i o"), Rule(f"{target}/bias", f"{source}.bias")]


def norm(target: str, source: str, layers: int | None = None) -> list[Rule]:
    """Returns the rules of a normalization layer with scale and bias."""
    return [
        Rule(f"{target}/scale", f"{source}.weight", layers=layers),
        Rule(f"{target}/bias", f"{source}.bias", layers=layers),
    ]


def separate_heads(target: str, sources: tuple[str, ...], heads: int, layers: int | None = None) -> list[Rule]:
    """Returns the rules of queries, keys and values that are published as separate linear layers.

    The layers become one kernel of shape [in, parts, heads, width].
    """
    kernels, biases = (tuple(f"{source}.{part}" for source in sources) for part in ("weight", "bias"))
    return [
        Rule(f"{target}/kernel", kernels, "p (n k) i -> i p n k", {"n": heads}, layers),
        Rule(f"{target}/bias", biases, "p (n k) -> p n k", {"n": heads}, layers),
    ]


def heads_out(target: str, source: str, heads: int, layers: int | None = None) -> list[Rule]:
    """Returns the rules of an attention output projection: [out, heads * width] to [heads, width, out]."""
    return [
        Rule(f"{target}/kernel", f"{source}.weight", "o (n k) -> n k o", {"n": heads}, layers),
        Rule(f"{target}/bias", f"{source}.bias", layers=layers),
    ]


def mlp_ratio(mlp: int, width: int) -> float:
    """Returns a ratio with `int(width * ratio) == mlp`.

    Args:
      mlp: Number of hidden channels.
      width: Number of input channels.
    """
    ratio = mlp / width  # may be rounded down
    return ratio if int(width * ratio) == mlp else float(np.nextafter(ratio, np.inf))


def count_numbers(tensors: Mapping[str, LazyTensor], prefix: str) -> int:
    """Returns the number of different indices that follow a prefix in the names of tensors."""
    return len({name.removeprefix(prefix).split(".")[0] for name in tensors if name.startswith(prefix)})


def with_prefix(tensors: Mapping[str, T], prefix: str) -> dict[str, T]:
    """Returns the tensors whose names start with a prefix, under their names without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
