"""Transformer with pre-LN blocks, scanned over layers.

The CLIP encoders, GLIDE's text encoder and the prior use it. A block is

    x <- x + attention(LN(x));   x <- x + MLP(LN(x))

The first axis of all parameters under `blocks` is the layer. With width D, N heads of width K = D / N, and M the width
of the MLP, the other axes are

    norm_1, norm_2       scale, bias [D]
    attention/qkv        kernel [D, 3, N, K], bias [3, N, K]      the second axis is query, key, value
    attention            query_value_bias [2, N, K]               instead of qkv/bias, if keys have no bias
    attention/out        kernel [N, K, D], bias [D]
    mlp_in, mlp_out      kernel [D, M], [M, D], bias [M], [D]

Published checkpoints order the rows of a joint qkv by [3, N, K] (CLIP) or by [N, 3, K] (GLIDE, Karlo). The import of
weights converts them to the layout above.
"""

from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from unclip_jax.arrays import Bool, Float
from unclip_jax.models.layers import LayerNorm, activation


def attend(
    q: Float["B L N K"],
    k: Float["B M N K"],
    v: Float["B M N K"],
    mask: Bool["B 1 L M"] | None,
    *,
    implementation: Literal["xla", "cudnn"] = "xla",
) -> Float["B L N K"]:
    """Computes dot-product attention, softmax(q k / sqrt(K)) v.

    Args:
      q: Queries.
      k: Keys.
      v: Values.
      mask: True if a query may attend to a key; broadcastable. With "xla", a query whose keys are all masked attends
        equally to all of them. If None, every query may attend to all keys.
      implementation: "xla" runs everywhere. "cudnn" is the fused kernel of NVIDIA GPUs, for half precision only.

    Raises:
      ValueError: If `implementation` is unknown.
    """
    if implementation == "cudnn":
        return jax.nn.dot_product_attention(q, k, v, mask=mask, implementation="cudnn")
    if implementation != "xla":
        raise ValueError(f"implementation must be 'xla' or 'cudnn', got {implementation!r}.")
    # Scale q and k by K^-1/4 each, as in the original implementations, so that half-precision products stay in range.
    scale = q.shape[-1] ** -0.25
    q, k, v = (jnp.swapaxes(x, 1, 2) for x in (q, k, v))  # batch axes first
    logits = jnp.einsum("BNLK,BNMK->BNLM", q * scale, k * scale, preferred_element_type=jnp.float32)
    if mask is not None:
        logits = jnp.where(mask, logits, jnp.finfo(jnp.float32).min)
    # Compute softmax in float32. In bfloat16 the weights of 100 keys do not sum to 1.
    weights = jax.nn.softmax(logits, axis=-1).astype(v.dtype)
    return jnp.swapaxes(jnp.einsum("BNLM,BNMK->BNLK", weights, v), 1, 2)


class SelfAttention(nn.Module):
    """Multi-head self-attention.

    Args:
      heads: Number of heads. Must divide the width of the sequence.
      out_init: Initializer of the output projection.
      dtype: Compute dtype.
      key_bias: Whether keys have a bias (see `Transformer`).
    """

    heads: int
    out_init: Any
    dtype: Any = jnp.float32
    key_bias: bool = True

    @nn.compact
    def __call__(self, x: Float["B L D"], mask: Bool["B 1 L L"] | None) -> Float["B L D"]:
        """Applies attention under `mask` (see `attend`)."""
        h = attend(*self._project(x), mask)
        return nn.DenseGeneral(x.shape[-1], axis=(-2, -1), dtype=self.dtype, kernel_init=self.out_init, name="out")(h)

    def _project(self, x: Float["B L D"]) -> tuple[Float["B L N K"], Float["B L N K"], Float["B L N K"]]:
        """Returns queries, keys and values."""
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
    """Transformer block.

    Args:
      layers: Number of blocks of the transformer, for the initialization of residual branches.
      heads: Number of attention heads.
      mlp_ratio: Width of the MLP relative to that of the sequence.
      activation: "gelu" or "quick_gelu".
      dtype: Compute dtype.
      key_bias: Whether keys have a bias (see `Transformer`).
    """

    layers: int
    heads: int
    mlp_ratio: float
    activation: str
    dtype: Any
    key_bias: bool

    @nn.compact
    def __call__(self, x: Float["B L D"], mask: Bool["B 1 L L"] | None) -> tuple[Float["B L D"], None]:
        """Returns the result and None, the carry and the output of a scan step."""
        width = x.shape[-1]
        # Initialization as in CLIP: residual branches are scaled down with the number of branches.
        residual_init = nn.initializers.normal(width**-0.5 * (2 * self.layers) ** -0.5)
        mlp_init = nn.initializers.normal((2 * width) ** -0.5)
        h = LayerNorm(dtype=self.dtype, name="norm_1")(x)
        x = x + SelfAttention(self.heads, residual_init, self.dtype, self.key_bias, name="attention")(h, mask)
        h = LayerNorm(dtype=self.dtype, name="norm_2")(x)
        h = nn.Dense(int(width * self.mlp_ratio), dtype=self.dtype, kernel_init=mlp_init, name="mlp_in")(h)
        h = activation(self.activation)(h)
        return x + nn.Dense(width, dtype=self.dtype, kernel_init=residual_init, name="mlp_out")(h), None


class Transformer(nn.Module):
    """Stack of transformer blocks.

    Args:
      layers: Number of blocks.
      heads: Number of attention heads. Must divide the width of the sequence.
      mlp_ratio: Width of the MLP relative to that of the sequence. The product is rounded down.
      activation: "gelu" or "quick_gelu".
      causal: Whether tokens attend only to themselves and earlier tokens.
      remat: Whether to rematerialize each block in the backward pass instead of storing its activations.
      dtype: Compute dtype. Norms and softmax are float32.
      key_bias: Whether keys have a bias, as queries and values do. It does not affect the output, because it adds the
        same value to all logits of a query.
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
        """Applies all blocks.

        Args:
          x: The sequences.
          mask: True if a query (third axis) may attend to a key (fourth axis); broadcastable. It is combined with the
            causal mask. If None, no other keys are masked.

        Raises:
          ValueError: If `heads` does not divide the width, or if `activation` is unknown.
        """
        if x.shape[-1] % self.heads:
            raise ValueError(f"heads must divide the width {x.shape[-1]}, got {self.heads}.")
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
