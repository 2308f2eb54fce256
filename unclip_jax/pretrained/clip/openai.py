"""CLIP with OpenAI's tensor names, which OpenCLIP also uses, and the transformer of GLIDE and Karlo.

The tensors determine neither the number of heads nor the activation. OpenAI's models use heads of 64 channels and
QuickGELU.
"""

from collections.abc import Mapping
from typing import Any

from unclip_jax.pretrained.layer_rules import count_numbers, dense, heads_out, mlp_ratio, norm
from unclip_jax.pretrained.lazy_tensor import LazyTensor
from unclip_jax.pretrained.rules import Rule

HEAD_WIDTH = 64


def openai_fields(
    tensors: Mapping[str, LazyTensor],
    *,
    image_head_width: int = HEAD_WIDTH,
    text_heads: int | None = None,
    activation: str = "quick_gelu",
) -> dict[str, Any]:
    """Returns the fields of `models.clip.CLIP`.

    The defaults are correct for OpenAI's models.

    Args:
      tensors: The tensors of both encoders.
      image_head_width: Channels per head of the image encoder.
      text_heads: Number of heads of the text encoder. If None, each head has 64 channels.
      activation: Name of the activation.

    Raises:
      KeyError: If a tensor is missing.
    """
    image_width, _, patch_size, _ = tensors["visual.conv1.weight"].shape
    patches = tensors["visual.positional_embedding"].shape[0] - 1
    vocab_size, text_width = tensors["token_embedding.weight"].shape
    return {
        "embed_dim": tensors["text_projection"].shape[1],
        "image_size": patch_size * round(patches**0.5),
        "patch_size": patch_size,
        "image_width": image_width,
        "image_layers": count_numbers(tensors, "visual.transformer.resblocks."),
        "image_heads": image_width // image_head_width,
        "image_mlp_ratio": mlp_ratio(tensors["visual.transformer.resblocks.0.mlp.c_fc.weight"].shape[0], image_width),
        "vocab_size": vocab_size,
        "context_length": tensors["positional_embedding"].shape[0],
        "text_width": text_width,
        "text_layers": count_numbers(tensors, "transformer.resblocks."),
        "text_heads": text_heads or text_width // HEAD_WIDTH,
        "text_mlp_ratio": mlp_ratio(tensors["transformer.resblocks.0.mlp.c_fc.weight"].shape[0], text_width),
        "activation": activation,
    }


def openai_rules(fields: Mapping[str, Any]) -> list[Rule]:
    """Returns the rules of a CLIP model with these fields."""
    return [
        Rule("logit_scale", "logit_scale"),
        Rule("image/class_embedding", "visual.class_embedding"),
        Rule("image/positional_embedding", "visual.positional_embedding"),
        Rule("image/patch_embedding/kernel", "visual.conv1.weight", "o i h w -> h w i o"),
        Rule("image/projection/kernel", "visual.proj"),
        *norm("image/norm_pre", "visual.ln_pre"),
        *norm("image/norm_post", "visual.ln_post"),
        *_clip_blocks("image", "visual.transformer", fields["image_layers"], fields["image_heads"]),
        Rule("text/token_embedding/embedding", "token_embedding.weight"),
        Rule("text/positional_embedding", "positional_embedding"),
        Rule("text/projection/kernel", "text_projection"),
        *norm("text/norm_final", "ln_final"),
        *_clip_blocks("text", "transformer", fields["text_layers"], fields["text_heads"]),
    ]


def transformer_rules(target: str, source: str, *, layers: int, heads: int) -> list[Rule]:
    """Returns the rules of the transformer of GLIDE's text encoder and Karlo's prior.

    The rows of its qkv projections are ordered [head][query, key, value][width].

    Args:
      target: Path of a `models.transformer.Transformer`.
      source: Published name of the module that contains the `resblocks`.
      layers: Number of layers.
      heads: Number of heads.
    """
    blocks, block, rows = f"{target}/blocks", f"{source}.resblocks.{{layer}}", {"n": heads, "p": 3}
    return [
        Rule(f"{blocks}/attention/qkv/kernel", f"{block}.attn.c_qkv.weight", "(n p k) i -> i p n k", rows, layers),
        Rule(f"{blocks}/attention/qkv/bias", f"{block}.attn.c_qkv.bias", "(n p k) -> p n k", rows, layers),
        *heads_out(f"{blocks}/attention/out", f"{block}.attn.c_proj", heads, layers),
        *_norms_and_mlp(blocks, block, layers),
    ]


def _clip_blocks(tower: str, source: str, layers: int, heads: int) -> list[Rule]:
    """Returns the rules of an encoder's transformer, with qkv rows [query, key, value][head][width]."""
    blocks, block, rows = f"{tower}/transformer/blocks", f"{source}.resblocks.{{layer}}", {"p": 3, "n": heads}
    return [
        Rule(f"{blocks}/attention/qkv/kernel", f"{block}.attn.in_proj_weight", "(p n k) i -> i p n k", rows, layers),
        Rule(f"{blocks}/attention/qkv/bias", f"{block}.attn.in_proj_bias", "(p n k) -> p n k", rows, layers),
        *heads_out(f"{blocks}/attention/out", f"{block}.attn.out_proj", heads, layers),
        *_norms_and_mlp(blocks, block, layers),
    ]


def _norms_and_mlp(blocks: str, block: str, layers: int) -> list[Rule]:
    return [
        *norm(f"{blocks}/norm_1", f"{block}.ln_1", layers),
        *norm(f"{blocks}/norm_2", f"{block}.ln_2", layers),
        *dense(f"{blocks}/mlp_in", f"{block}.mlp.c_fc", layers),
        *dense(f"{blocks}/mlp_out", f"{block}.mlp.c_proj", layers),
    ]
