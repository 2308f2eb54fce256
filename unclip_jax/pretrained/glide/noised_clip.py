"""GLIDE's CLIP for noisy images (arXiv 2112.10741), as `models.noised_clip.NoisedCLIP`.

It is published as one file per encoder. Both files name their tensors `blocks.*`; `noised_clip_tensors` adds the
prefixes "image." and "text.".
"""

from collections.abc import Mapping
from typing import Any

from unclip_jax.pretrained.layer_rules import count_numbers
from unclip_jax.pretrained.lazy_tensor import LazyTensor
from unclip_jax.pretrained.rules import Rule

IMAGE, TEXT = "image.", "text."
HEAD_WIDTH = 64  # of both encoders


def noised_clip_tensors(image: Mapping[str, LazyTensor], text: Mapping[str, LazyTensor]) -> dict[str, LazyTensor]:
    """Returns the tensors of both files, with the names of the encoders as prefixes."""
    return {
        **{f"{IMAGE}{name}": tensor for name, tensor in image.items()},
        **{f"{TEXT}{name}": tensor for name, tensor in text.items()},
    }


def noised_clip_fields(tensors: Mapping[str, LazyTensor]) -> dict[str, Any]:
    """Returns the fields of `NoisedCLIP`, derived from tensor shapes.

    Args:
      tensors: The result of `noised_clip_tensors`.

    Raises:
      KeyError: If a tensor is missing.
    """
    image_width, _, patch_size, _ = tensors[f"{IMAGE}blocks.input.patch_proj"].shape
    patches = tensors[f"{IMAGE}blocks.input.w_pos"].shape[0] - 1
    vocab_size, text_width = tensors[f"{TEXT}blocks.input.w_voc"].shape
    return {
        "embed_dim": tensors[f"{IMAGE}blocks.output.f.w"].shape[0],
        "image_size": patch_size * round(patches**0.5),
        "patch_size": patch_size,
        "image_width": image_width,
        "image_layers": count_numbers(tensors, f"{IMAGE}blocks.block_"),
        "image_heads": image_width // HEAD_WIDTH,
        "vocab_size": vocab_size,
        "context_length": tensors[f"{TEXT}blocks.input.w_pos"].shape[0],
        "text_width": text_width,
        "text_layers": count_numbers(tensors, f"{TEXT}blocks.block_"),
        "text_heads": text_width // HEAD_WIDTH,
        "noise_steps": tensors[f"{IMAGE}blocks.input.w_t"].shape[0],
    }


def noised_clip_rules(fields: Mapping[str, Any]) -> list[Rule]:
    """Returns the rules of a `NoisedCLIP` with these fields, for the names of `noised_clip_tensors`."""
    image, text = f"{IMAGE}blocks", f"{TEXT}blocks"
    return [
        Rule("image/step_embedding/embedding", f"{image}.input.w_t"),
        Rule("image/patch_embedding/kernel", f"{image}.input.patch_proj", "o i h w -> h w i o"),
        Rule("image/positional_embedding", f"{image}.input.w_pos"),
        *_norm("image/norm_pre", f"{image}.input.ln"),
        *_blocks("image", image, fields["image_layers"], fields["image_heads"]),
        *_norm("image/norm_post", f"{image}.output.ln"),
        Rule("image/projection/kernel", f"{image}.output.f.w", "o i -> i o"),
        Rule("text/token_embedding/embedding", f"{text}.input.w_voc"),
        Rule("text/positional_embedding", f"{text}.input.w_pos"),
        *_blocks("text", text, fields["text_layers"], fields["text_heads"]),
        *_norm("text/norm_final", f"{text}.output.ln"),
        Rule("text/projection/kernel", f"{text}.output.f.w", "o i -> i o"),
    ]


def _blocks(tower: str, source: str, layers: int, heads: int) -> list[Rule]:
    blocks = f"{tower}/transformer/blocks"
    attention, mlp = f"{source}.block_{{layer}}.f_attn", f"{source}.block_{{layer}}.f_mlp"
    kernels = tuple(f"{attention}.f_{part}.w" for part in "qkv")
    biases = tuple(f"{attention}.f_{part}.b" for part in "qv")
    rows = {"n": heads}
    return [
        *_norm(f"{blocks}/norm_1", f"{attention}.ln", layers),
        *_norm(f"{blocks}/norm_2", f"{mlp}.ln", layers),
        Rule(f"{blocks}/attention/qkv/kernel", kernels, "p (n k) i -> i p n k", rows, layers),
        Rule(f"{blocks}/attention/query_value_bias", biases, "p (n k) -> p n k", rows, layers),
        Rule(f"{blocks}/attention/out/kernel", f"{attention}.f_c.w", "o (n k) -> n k o", rows, layers),
        Rule(f"{blocks}/attention/out/bias", f"{attention}.f_c.b", layers=layers),
        *_dense(f"{blocks}/mlp_in", f"{mlp}.f_1", layers),
        *_dense(f"{blocks}/mlp_out", f"{mlp}.f_2", layers),
    ]


def _norm(target: str, source: str, layers: int | None = None) -> list[Rule]:
    return [
        Rule(f"{target}/scale", f"{source}.g", layers=layers),
        Rule(f"{target}/bias", f"{source}.b", layers=layers),
    ]


def _dense(target: str, source: str, layers: int) -> list[Rule]:
    return [
        Rule(f"{target}/kernel", f"{source}.w", "o i -> i o", layers=layers),
        Rule(f"{target}/bias", f"{source}.b", layers=layers),
    ]
