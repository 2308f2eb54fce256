"""Rules for PyTorch's layers, and sizes derived from the names and shapes of tensors.

`{layer}` in names, and `layers`, are those of `rules.Rule`.
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
    """Returns the rules of any normalization layer."""
    return [
        Rule(f"{target}/scale", f"{source}.weight", layers=layers),
        Rule(f"{target}/bias", f"{source}.bias", layers=layers),
    ]


def separate_heads(target: str, sources: tuple[str, ...], heads: int, layers: int | None = None) -> list[Rule]:
    """Returns the rules of queries, keys and values from separate linear layers: [in, parts, heads, width]."""
    kernels, biases = (tuple(f"{source}.{part}" for source in sources) for part in ("weight", "bias"))
    return [
        Rule(f"{target}/kernel", kernels, "p (n k) i -> i p n k", {"n": heads}, layers),
        Rule(f"{target}/bias", biases, "p (n k) -> p n k", {"n": heads}, layers),
    ]


def heads_out(target: str, source: str, heads: int, layers: int | None = None) -> list[Rule]:
    """Returns the rules of the output projection of attention: its input is [heads, width of a head]."""
    return [
        Rule(f"{target}/kernel", f"{source}.weight", "o (n k) -> n k o", {"n": heads}, layers),
        Rule(f"{target}/bias", f"{source}.bias", layers=layers),
    ]


def mlp_ratio(mlp: int, width: int) -> float:
    """Returns a ratio for which `int(width * ratio)` is `mlp`, although the quotient may be rounded down."""
    ratio = mlp / width
    return ratio if int(width * ratio) == mlp else float(np.nextafter(ratio, np.inf))


def count_numbers(tensors: Mapping[str, LazyTensor], prefix: str) -> int:
    """Returns how many different numbers follow the prefix in the names."""
    return len({name.removeprefix(prefix).split(".")[0] for name in tensors if name.startswith(prefix)})


def with_prefix(tensors: Mapping[str, T], prefix: str) -> dict[str, T]:
    """Returns the tensors whose names start with the prefix, by their names without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
