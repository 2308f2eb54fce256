"""The transformer of the CLIP towers and the prior: pre-LN blocks, scanned over layers.

    x <- x + attention(LN(x));   x <- x + MLP(LN(x))

Parameters are stacked: every tensor below `blocks` has the layers as its first axis, and beyond that axis the layouts
are, with D the width, N heads of width K = D / N, and M the width of the MLP,

    norm_1, norm_2       scale, bias [D]
    attention/qkv        kernel [D, 3, N, K], bias [3, N, K]      the second axis is query, key, value
    attention            query_value_bias [2, N, K]               instead of qkv/bias, where keys have none
    attention/out        kernel [N, K, D], bias [D]
    mlp_in, mlp_out      kernel [D, M], [M, D], bias [M], [D]

Published checkpoints order the rows of a joint qkv by [3, N, K] (CLIP) or by [N, 3, K] (GLIDE, Karlo); that is undone
when weights are imported, and no module knows of it.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from unclip_jax.arrays import Bool, Float
from unclip_jax.models.layers import LayerNorm, activation


def attend(
    q: Float["B L N K"], k: Float["B M N K"], v: Float["B M N K"], mask: Bool["B 1 L M"] | None
) -> Float["B L N K"]:
    """softmax(q k / sqrt(K)) v.  mask: True where a query may see a key, broadcastable; None: everywhere.

    A query that may see no key sees all of them equally.
    """
    # Half of the scale on each side, as published: the products stay in range at half precision.
    scale = q.shape[-1] ** -0.25
    q, k, v = (jnp.swapaxes(x, 1, 2) for x in (q, k, v))  # heads beside rows: one batch of plain products
    logits = jnp.einsum("BNLK,BNMK->BNLM", q * scale, k * scale, preferred_element_type=jnp.float32)
    if mask is not None:
        logits = jnp.where(mask, logits, jnp.finfo(jnp.float32).min)
    # Softmax in float32: in bfloat16 the weights of a hundred keys do not sum to one.
    weights = jax.nn.softmax(logits, axis=-1).astype(v.dtype)
    return jnp.swapaxes(jnp.einsum("BNLM,BNMK->BNLK", weights, v), 1, 2)


class SelfAttention(nn.Module):
    """Multi-head attention of a sequence to itself."""

    heads: int
    out_init: Any
    dtype: Any = jnp.float32
    key_bias: bool = True

    @nn.compact
    def __call__(self, x: Float["B L D"], mask: Bool["B 1 L L"] | None) -> Float["B L D"]:
        h = attend(*self._projected(x), mask)
        return nn.DenseGeneral(x.shape[-1], axis=(-2, -1), dtype=self.dtype, kernel_init=self.out_init, name="out")(h)

    def _projected(self, x: Float["B L D"]) -> tuple[Float["B L N K"], Float["B L N K"], Float["B L N K"]]:
        """Queries, keys and values."""
        width = x.shape[-1]
        head = (self.heads, width // self.heads)
        qkv = nn.DenseGeneral(
            (3, *head),
            use_bias=self.key_bias,
            dtype=self.dtype,
            kernel_init=nn.initializers.normal(width**-0.5),
            name="qkv",
        )(x)
        q, k, v = jnp.unstack(qkv, axis=-3)
        if self.key_bias:
            return q, k, v
        bias = self.param("query_value_bias", nn.initializers.zeros, (2, *head)).astype(self.dtype)
        return q + bias[0], k, v + bias[1]


class Block(nn.Module):
    """One layer. Returns (x, None), the carry and the empty output that a scan wants."""

    layers: int
    heads: int
    mlp_ratio: float
    activation: str
    dtype: Any
    key_bias: bool

    @nn.compact
    def __call__(self, x: Float["B L D"], mask: Bool["B 1 L L"] | None) -> tuple[Float["B L D"], None]:
        width = x.shape[-1]
        # CLIP's initial deviations: what is added to the residual stream shrinks with the number of additions.
        residual_init = nn.initializers.normal(width**-0.5 * (2 * self.layers) ** -0.5)
        mlp_init = nn.initializers.normal((2 * width) ** -0.5)
        h = LayerNorm(self.dtype, name="norm_1")(x)
        x = x + SelfAttention(self.heads, residual_init, self.dtype, self.key_bias, name="attention")(h, mask)
        h = LayerNorm(self.dtype, name="norm_2")(x)
        h = nn.Dense(int(width * self.mlp_ratio), dtype=self.dtype, kernel_init=mlp_init, name="mlp_in")(h)
        h = activation(self.activation)(h)
        return x + nn.Dense(width, dtype=self.dtype, kernel_init=residual_init, name="mlp_out")(h), None


class Transformer(nn.Module):
    """`layers` blocks over a sequence.

    Args:
      layers, heads: numbers of blocks and of heads; heads must divide the width of the sequence.
      mlp_ratio: width of the MLP over that of the sequence, rounded down.
      activation: "gelu" or "quick_gelu".
      causal: whether a token sees itself and earlier tokens only.
      remat: whether a backward pass computes each block anew instead of keeping its values.
      dtype: type of the computation; norms and softmax are float32.
      key_bias: whether keys have a bias, as queries and values do. It changes no answer: to all products of a query
        it adds the same number, which softmax takes away.
    """

    layers: int
    heads: int
    mlp_ratio: float = 4.0
    activation: str = "gelu"
    causal: bool = False
    remat: bool = False
    dtype: Any = jnp.float32
    key_bias: bool = True

    @nn.compact
    def __call__(self, x: Float["B L D"], mask: Bool["B 1 L L"] | None = None) -> Float["B L D"]:
        """mask: True where a query (third axis) may see a key (fourth), broadcastable, beside `causal`; None: all."""
        if x.shape[-1] % self.heads:
            raise ValueError(f"heads {self.heads} does not divide the width {x.shape[-1]}; use a divisor of it")
        if self.causal:
            causal = jnp.tril(jnp.ones((x.shape[1], x.shape[1]), bool))[None, None]
            mask = causal if mask is None else mask & causal
        block = nn.remat(Block, prevent_cse=False) if self.remat else Block
        blocks = nn.scan(
            block,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=nn.broadcast,
            length=self.layers,
        )
        x = x.astype(self.dtype)
        fields = (self.layers, self.heads, self.mlp_ratio, self.activation, self.dtype, self.key_bias)
        return blocks(*fields, name="blocks")(x, mask)[0]
