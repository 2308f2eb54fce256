"""CLIP's published weights: OpenAI's TorchScript files, OpenCLIP's, and Hugging Face's folders.

OpenAI and OpenCLIP name their tensors alike, and neither the number of heads nor the activation can be seen in them.
OpenAI's own loader takes heads of 64 channels and QuickGELU; an OpenCLIP model says both in open_clip_config.json.
"""

from collections.abc import Mapping
from typing import Any

from unclip_jax.pretrained.layer_rules import count_numbers, dense, heads_out, mlp_ratio, norm, separate_heads
from unclip_jax.pretrained.stored_tensor import StoredTensor
from unclip_jax.pretrained.weight_mapping import Rule

OPENAI_HEAD_WIDTH = 64


def openai_fields(
    tensors: Mapping[str, StoredTensor], *, image_head_width: int, text_heads: int | None, activation: str
) -> dict[str, Any]:
    """The fields of `models.clip.CLIP` for tensors of OpenAI's names. `text_heads` None: of 64 channels each."""
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
        "text_heads": text_heads or text_width // OPENAI_HEAD_WIDTH,
        "text_mlp_ratio": mlp_ratio(tensors["transformer.resblocks.0.mlp.c_fc.weight"].shape[0], text_width),
        "activation": activation,
    }


def open_clip_fields(tensors: Mapping[str, StoredTensor], config: Mapping[str, Any]) -> dict[str, Any]:
    """The same, with what OpenCLIP's configuration file says."""
    model = config["model_cfg"]
    return openai_fields(
        tensors,
        image_head_width=model["vision_cfg"].get("head_width", OPENAI_HEAD_WIDTH),
        text_heads=model["text_cfg"]["heads"],
        activation="quick_gelu" if model.get("quick_gelu") else "gelu",
    )


def hugging_face_fields(text: Any, image: Any | None, embed_dim: int) -> dict[str, Any]:
    """The fields of `models.clip.CLIP` for a `transformers.CLIPTextConfig` and a `CLIPVisionConfig`; `image` None: a
    text tower alone. Raises ValueError where the towers differ in what is one field here, or in what is fixed."""
    for config in (text, image):
        if config is not None and config.layer_norm_eps != 1e-5:
            raise ValueError(f"layer_norm_eps is {config.layer_norm_eps}; 1e-5 is CLIP's, and the only one here")
    if image is not None and image.hidden_act != text.hidden_act:
        raise ValueError(f"the towers' hidden_act are {image.hidden_act!r} and {text.hidden_act!r}; one is wanted")
    return {
        "embed_dim": embed_dim,
        **_hugging_face_image_fields(image),
        "vocab_size": text.vocab_size,
        "context_length": text.max_position_embeddings,
        "text_width": text.hidden_size,
        "text_layers": text.num_hidden_layers,
        "text_heads": text.num_attention_heads,
        "text_mlp_ratio": mlp_ratio(text.intermediate_size, text.hidden_size),
        "activation": text.hidden_act,
    }


def _hugging_face_image_fields(image: Any | None) -> dict[str, Any]:
    if image is None:
        return dict.fromkeys(("image_size", "patch_size", "image_width", "image_layers", "image_heads"))
    return {
        "image_size": image.image_size,
        "patch_size": image.patch_size,
        "image_width": image.hidden_size,
        "image_layers": image.num_hidden_layers,
        "image_heads": image.num_attention_heads,
        "image_mlp_ratio": mlp_ratio(image.intermediate_size, image.hidden_size),
    }


def openai_rules(fields: Mapping[str, Any]) -> list[Rule]:
    """CLIP's parameters from OpenAI's and OpenCLIP's tensors."""
    return [
        Rule("logit_scale", "logit_scale"),
        Rule("image/class_embedding", "visual.class_embedding"),
        Rule("image/positional_embedding", "visual.positional_embedding"),
        Rule("image/patch_embedding/kernel", "visual.conv1.weight", "o i h w -> h w i o"),
        Rule("image/projection/kernel", "visual.proj"),
        *norm("image/norm_pre", "visual.ln_pre"),
        *norm("image/norm_post", "visual.ln_post"),
        *_openai_blocks("image", "visual.transformer.resblocks", fields["image_layers"], fields["image_heads"]),
        Rule("text/token_embedding/embedding", "token_embedding.weight"),
        Rule("text/positional_embedding", "positional_embedding"),
        Rule("text/projection/kernel", "text_projection"),
        *norm("text/norm_final", "ln_final"),
        *_openai_blocks("text", "transformer.resblocks", fields["text_layers"], fields["text_heads"]),
    ]


def hugging_face_rules(fields: Mapping[str, Any]) -> list[Rule]:
    """CLIP's parameters from those of `transformers.CLIPModel`; those of its text tower, where the fields say no more,
    from `CLIPTextModelWithProjection`."""
    text = "text_model"
    return [
        *(_hugging_face_image_rules(fields) if fields["image_width"] is not None else ()),
        Rule("text/token_embedding/embedding", f"{text}.embeddings.token_embedding.weight"),
        Rule("text/positional_embedding", f"{text}.embeddings.position_embedding.weight"),
        Rule("text/projection/kernel", "text_projection.weight", "o i -> i o"),
        *norm("text/norm_final", f"{text}.final_layer_norm"),
        *_hugging_face_blocks("text", text, fields["text_layers"], fields["text_heads"]),
    ]


def _hugging_face_image_rules(fields: Mapping[str, Any]) -> list[Rule]:
    image = "vision_model"
    return [
        Rule("logit_scale", "logit_scale"),
        Rule("image/class_embedding", f"{image}.embeddings.class_embedding"),
        Rule("image/positional_embedding", f"{image}.embeddings.position_embedding.weight"),
        Rule("image/patch_embedding/kernel", f"{image}.embeddings.patch_embedding.weight", "o i h w -> h w i o"),
        Rule("image/projection/kernel", "visual_projection.weight", "o i -> i o"),
        *norm("image/norm_pre", f"{image}.pre_layrnorm"),  # spelled so
        *norm("image/norm_post", f"{image}.post_layernorm"),
        *_hugging_face_blocks("image", image, fields["image_layers"], fields["image_heads"]),
    ]


def _openai_blocks(tower: str, source: str, layers: int, heads: int) -> list[Rule]:
    blocks, source = f"{tower}/transformer/blocks", f"{source}.{{layer}}"
    rows = {"p": 3, "n": heads}
    return [
        *norm(f"{blocks}/norm_1", f"{source}.ln_1", layers),
        *norm(f"{blocks}/norm_2", f"{source}.ln_2", layers),
        Rule(f"{blocks}/attention/qkv/kernel", f"{source}.attn.in_proj_weight", "(p n k) i -> i p n k", rows, layers),
        Rule(f"{blocks}/attention/qkv/bias", f"{source}.attn.in_proj_bias", "(p n k) -> p n k", rows, layers),
        *heads_out(f"{blocks}/attention/out", f"{source}.attn.out_proj", heads, layers),
        *dense(f"{blocks}/mlp_in", f"{source}.mlp.c_fc", layers),
        *dense(f"{blocks}/mlp_out", f"{source}.mlp.c_proj", layers),
    ]


def _hugging_face_blocks(tower: str, source: str, layers: int, heads: int) -> list[Rule]:
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
