"""CLIP in the layout of transformers (CLIPModel and CLIPTextModelWithProjection)."""

from collections.abc import Mapping
from typing import Any

from unclip_jax.pretrained.layer_rules import dense, heads_out, mlp_ratio, norm, separate_heads
from unclip_jax.pretrained.lazy_tensor import LazyTensor
from unclip_jax.pretrained.rules import Rule

IMAGE_FIELDS = ("image_size", "patch_size", "image_width", "image_layers", "image_heads")


def without_position_ids(tensors: Mapping[str, LazyTensor]) -> dict[str, LazyTensor]:
    """Returns the tensors without the position indices 0, 1, 2, ... that older files contain."""
    return {name: tensor for name, tensor in tensors.items() if not name.endswith(".position_ids")}


def hugging_face_fields(text: Any, image: Any | None, embed_dim: int) -> dict[str, Any]:
    """Returns the fields of `models.clip.CLIP`.

    Args:
      text: A `transformers.CLIPTextConfig`.
      image: A `transformers.CLIPVisionConfig`. If None, the model has no image encoder.
      embed_dim: Width of the joint embeddings.

    Raises:
      ValueError: If the activations of the two encoders differ, or if the epsilon of a layer norm is not 1e-5.
    """
    for config in (text, image):
        if config is not None and config.layer_norm_eps != 1e-5:
            raise ValueError(f"layer_norm_eps must be 1e-5, got {config.layer_norm_eps}.")
    if image is not None and image.hidden_act != text.hidden_act:
        raise ValueError(
            f"hidden_act must be the same for both encoders, got {image.hidden_act!r} (image) and {text.hidden_act!r} "
            "(text)."
        )
    return {
        "embed_dim": embed_dim,
        **_image_fields(image),
        "vocab_size": text.vocab_size,
        "context_length": text.max_position_embeddings,
        "text_width": text.hidden_size,
        "text_layers": text.num_hidden_layers,
        "text_heads": text.num_attention_heads,
        "text_mlp_ratio": mlp_ratio(text.intermediate_size, text.hidden_size),
        "activation": text.hidden_act,
    }


def _image_fields(image: Any | None) -> dict[str, Any]:
    if image is None:
        return dict.fromkeys(IMAGE_FIELDS)
    return {
        "image_size": image.image_size,
        "patch_size": image.patch_size,
        "image_width": image.hidden_size,
        "image_layers": image.num_hidden_layers,
        "image_heads": image.num_attention_heads,
        "image_mlp_ratio": mlp_ratio(image.intermediate_size, image.hidden_size),
    }


def hugging_face_rules(fields: Mapping[str, Any]) -> list[Rule]:
    """Returns the rules of a CLIP model with these fields, or of a text encoder if `image_width` is None."""
    return [
        *(_image_rules(fields) if fields["image_width"] is not None else ()),
        Rule("text/token_embedding/embedding", "text_model.embeddings.token_embedding.weight"),
        Rule("text/positional_embedding", "text_model.embeddings.position_embedding.weight"),
        Rule("text/projection/kernel", "text_projection.weight", "o i -> i o"),
        *norm("text/norm_final", "text_model.final_layer_norm"),
        *_blocks("text", "text_model", fields["text_layers"], fields["text_heads"]),
    ]


def _image_rules(fields: Mapping[str, Any]) -> list[Rule]:
    return [
        Rule("logit_scale", "logit_scale"),
        Rule("image/class_embedding", "vision_model.embeddings.class_embedding"),
        Rule("image/positional_embedding", "vision_model.embeddings.position_embedding.weight"),
        Rule("image/patch_embedding/kernel", "vision_model.embeddings.patch_embedding.weight", "o i h w -> h w i o"),
        Rule("image/projection/kernel", "visual_projection.weight", "o i -> i o"),
        *norm("image/norm_pre", "vision_model.pre_layrnorm"),  # the published spelling
        *norm("image/norm_post", "vision_model.post_layernorm"),
        *_blocks("image", "vision_model", fields["image_layers"], fields["image_heads"]),
    ]


def _blocks(tower: str, source: str, layers: int, heads: int) -> list[Rule]:
    blocks, source = f"{tower}/transformer/blocks", f"{source}.encoder.layers.{{layer}}"
    qkv = tuple(f"{source}.self_attn.{part}_proj" for part in "qkv")
    return [
        *norm(f"{blocks}/norm_1", f"{source}.layer_norm1", layers),
        *norm(f"{blocks}/norm_2", f"{source}.layer_norm2", layers),
        *separate_heads(f"{blocks}/attention/qkv", qkv, heads, layers),
        *heads_out(f"{blocks}/attention/out", f"{source}.self_attn.out_proj", heads, layers),
        *dense(f"{blocks}/mlp_in", f"{source}.mlp.fc1", layers),
        *dense(f"{blocks}/mlp_out", f"{source}.mlp.fc2", layers),
    ]
