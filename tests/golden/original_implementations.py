"""Original implementations of published weights: one function per family that loads a stage in float32 and runs it.

Each function takes a stage, the inputs of `check_published.inputs`, and whether to run the network for the last step.
It returns tensors by the names of `check_published.ours`. Needs the extra `parity` and the module of the family in
`check_published.ORIGINALS`.
"""

import pathlib
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from tests.golden.recording import channels_first, channels_last
from unclip_jax.pretrained.guided_diffusion import unet as guided_diffusion
from unclip_jax.pretrained.karlo import files as karlo_files
from unclip_jax.pretrained.karlo import original as karlo
from unclip_jax.pretrained.layer_rules import with_prefix
from unclip_jax.pretrained.published import PublishedStage
from unclip_jax.pretrained.unet_rules import complete

Outputs = dict[str, torch.Tensor]
Inputs = Mapping[str, np.ndarray]
HALF, FLOAT = 5, 6  # numbers of the dtypes in TorchScript


def run(family: str, stage: PublishedStage, given: Inputs, *, is_last: bool) -> dict[str, np.ndarray]:
    """Returns the float32 outputs of one network. Images have channels last."""
    with torch.no_grad():
        outputs = FAMILIES[family](stage, given, is_last)
    return {name: channels_last(x) if x.ndim == 4 else x.numpy() for name, x in outputs.items()}


def hugging_face_clip(stage: PublishedStage, given: Inputs, is_last: bool) -> Outputs:
    import transformers

    model = transformers.CLIPModel.from_pretrained(stage.source, dtype=torch.float32)
    text = model.text_model(input_ids=tensor(given["tokens"]))
    return {
        "image": model.visual_projection(model.vision_model(channels_first(given["pixels"])).pooler_output),
        "pooled": model.text_projection(text.pooler_output),
        "sequence": text.last_hidden_state,
        "scale": cosine_scale(model),
    }


def openai_clip(stage: PublishedStage, given: Inputs, is_last: bool) -> Outputs:
    print(f"{stage.source} is a TorchScript file. Running the code that it contains.")
    model = to_float32_on_cpu(torch.jit.load(stage.source, map_location="cpu"))
    return encoders(model, given)


def open_clip(stage: PublishedStage, given: Inputs, is_last: bool) -> Outputs:
    import open_clip

    return encoders(open_clip.create_model(f"local-dir:{stage.source}", precision="fp32").eval(), given)


def karlo_diffusers(stage: PublishedStage, given: Inputs, is_last: bool) -> Outputs:
    import diffusers
    from diffusers.pipelines.deprecated.unclip.text_proj import UnCLIPTextProjModel

    folder, kind = pathlib.Path(stage.source), stage.spec.kind
    if kind == "clip":
        return karlo_diffusers_clip(folder, given)
    x, t, z, pooled, sequence, mask = conditions_of(given)
    if kind == "diffusion_prior":
        model = diffusers.PriorTransformer.from_pretrained(folder)
        output = model(z, t, proj_embedding=pooled, encoder_hidden_states=sequence, attention_mask=mask)
        standardized = output.predicted_image_embedding
        return {"output": standardized, "embedding": model.post_process_latents(standardized)}
    if kind == "decoder":
        unet = diffusers.UNet2DConditionModel.from_pretrained(folder)
        text_proj = UnCLIPTextProjModel.from_pretrained(folder.parent / "text_proj")
        context, additive = text_proj(
            image_embeddings=torch.where(
                tensor(given["drop"])[:, None], text_proj.learned_classifier_free_guidance_embeddings, z
            ),
            prompt_embeds=pooled,
            text_encoder_hidden_states=sequence,
            do_classifier_free_guidance=False,
        )
        mask = torch.nn.functional.pad(mask, (text_proj.clip_extra_context_tokens, 0), value=True)
        output = unet(x, t, encoder_hidden_states=context, class_labels=additive, attention_mask=mask)
        return {"output": output.sample}
    model = diffusers.UNet2DModel.from_pretrained(folder.parent / "super_res_last" if is_last else folder)
    return {"output": model(torch.cat([x, channels_first(given["low_res"])], dim=1), t).sample}


def karlo_diffusers_clip(folder: pathlib.Path, given: Inputs) -> Outputs:
    import transformers

    model = transformers.CLIPTextModelWithProjection.from_pretrained(folder, dtype=torch.float32)
    text = model(tensor(given["tokens"]))
    outputs = {"pooled": text.text_embeds, "sequence": text.last_hidden_state}
    if "pixels" in given:
        image = folder.parent / "image_encoder"
        model = transformers.CLIPVisionModelWithProjection.from_pretrained(image, dtype=torch.float32)
        outputs["image"] = model(channels_first(given["pixels"])).image_embeds
    return outputs


def karlo_original(stage: PublishedStage, given: Inputs, is_last: bool) -> Outputs:
    from karlo.modules.unet import PLMImUNet, SuperResUNetModel
    from karlo.modules.xf import PriorTransformer

    fields, kind, file = stage.spec.model, stage.spec.kind, pathlib.Path(stage.source)
    state = load(file)["state_dict"]
    x, t, z, pooled, sequence, mask = conditions_of(given)
    if kind == "diffusion_prior":
        length = fields["context_length"]
        arguments = {"xf_width": fields["width"], "xf_layers": fields["layers"], "xf_heads": fields["heads"]}
        arguments |= {"text_ctx": length, "xf_final_ln": True, "clip_dim": fields["embed_dim"]}
        causal = torch.full((1, length + 4, length + 4), float("-inf")).triu(1)
        model = filled(PriorTransformer, arguments, with_prefix(state, karlo.MODEL))
        output = model(z, t, pooled, sequence, mask, causal)
        (statistics,) = file.parent.glob(f"{karlo_files.STATISTICS}*")
        mean, std = load(statistics)
        return {"output": output, "embedding": output * std + mean}
    if kind == "decoder":
        arguments = unet_arguments(fields) | {
            "text_ctx": sequence.shape[1], "xf_width": fields["context_width"], "clip_dim": fields["embed_dim"],
            "clip_emb_mult": fields["image_tokens"], "clip_emb_drop": 0.1,
        }  # fmt: skip
        model = filled(PLMImUNet, arguments, with_prefix(state, karlo.MODEL))
        z = torch.where(tensor(given["drop"])[:, None], model.cf_param, z)
        return {"output": model(x, t, pooled, sequence, mask, z)}
    part = karlo.UPSAMPLER_LAST if is_last else karlo.UPSAMPLER_FIRST
    arguments = unet_arguments(fields) | {"use_middle_attention": False}
    model = filled(SuperResUNetModel, arguments, with_prefix(state, part))
    return {"output": model(x, t, channels_first(given["low_res"]))}


def glide(stage: PublishedStage, given: Inputs, is_last: bool) -> Outputs:
    import types

    from glide_text2im import text2im_model

    fields = stage.spec.model
    networks = {
        3: text2im_model.Text2ImUNet,
        6: text2im_model.SuperResText2ImUNet,
        7: text2im_model.InpaintText2ImUNet,
        10: text2im_model.SuperResInpaintText2ImUnet,
    }
    arguments = unet_arguments(fields) | {
        # The networks only use the size of the tokenizer.
        "tokenizer": types.SimpleNamespace(n_vocab=fields["vocab_size"]), "text_ctx": fields["context_length"],
        "xf_width": fields["text_width"], "xf_layers": fields["text_layers"], "xf_heads": fields["text_heads"],
        "xf_final_ln": True, "xf_padding": True,
    }  # fmt: skip
    model = filled(networks[fields["in_channels"]], arguments, load(stage.source))
    names = {"low_res": "low_res", "known": "inpaint_image", "known_mask": "inpaint_mask"}
    images = {theirs: channels_first(given[ours]) for ours, theirs in names.items() if ours in given}
    tokens, mask = tensor(given["tokens"]), tensor(given["mask"])
    return {"output": model(channels_first(given["x"]), tensor(given["t"]), tokens=tokens, mask=mask, **images)}


def guided_diffusion_unet(stage: PublishedStage, given: Inputs, is_last: bool) -> Outputs:
    from guided_diffusion.unet import EncoderUNetModel, SuperResModel, UNetModel

    fields = stage.spec.model
    arguments = unet_arguments(fields) | {"image_size": fields["image_size"]}
    conditions = {}
    if stage.spec.kind == "noised_classifier":
        network = EncoderUNetModel
        arguments |= {"out_channels": fields["num_classes"], "pool": "attention"}
    else:
        name = pathlib.Path(stage.source).stem
        arguments["num_classes"] = fields["num_classes"]
        arguments["use_new_attention_order"] = name in guided_diffusion.NEW_ATTENTION_ORDER
        network = SuperResModel if "low_res" in given else UNetModel
        conditions |= {"low_res": channels_first(given["low_res"])} if "low_res" in given else {}
        conditions |= {"y": tensor(given["labels"])} if "labels" in given else {}
    model = filled(network, arguments, load(stage.source))
    return {"output": model(channels_first(given["x"]), tensor(given["t"]), **conditions)}


FAMILIES = {
    "CLIP in Hugging Face's layout": hugging_face_clip,
    "CLIP in OpenAI's layout": openai_clip,
    "CLIP in OpenCLIP's layout": open_clip,
    "Karlo in diffusers' layout": karlo_diffusers,
    "Karlo in its own layout": karlo_original,
    "GLIDE": glide,
    "guided-diffusion": guided_diffusion_unet,
}


def encoders(model: Any, given: Inputs) -> Outputs:
    """Returns the outputs of a CLIP model with the methods of OpenAI's code."""
    image, pooled = model.encode_image(channels_first(given["pixels"])), model.encode_text(tensor(given["tokens"]))
    return {"image": image, "pooled": pooled, "scale": cosine_scale(model)}


def cosine_scale(model: Any) -> torch.Tensor:
    """Returns the scale of cosine similarities. Rounded to float16, the parameter can exceed CLIP's maximum."""
    return model.logit_scale.detach().exp().clamp(max=100.0)


def to_float32_on_cpu(model: torch.jit.ScriptModule) -> torch.jit.ScriptModule:
    """Replaces the device and dtype constants in a model that was traced on a GPU in float16."""
    for module in model.modules():
        for name in module._c._method_names():
            graph = module._c._get_method(name).graph
            for node in graph.findAllNodes("prim::Constant"):
                if node.output().type().kind() == "DeviceObjType":
                    node.s_("value", "cpu")
            for node in graph.findAllNodes("aten::to"):
                for value in list(node.inputs())[1:3]:  # one of them is the dtype
                    is_constant = value.node().kind() == "prim::Constant" and value.type().kind() == "IntType"
                    if is_constant and value.node().i("value") == HALF:
                        value.node().i_("value", FLOAT)
    return model.float().eval()


def unet_arguments(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Returns arguments for guided-diffusion's U-Net, which GLIDE and Karlo also use, from fields of this package."""
    fields = complete(fields)
    has_width = fields["num_heads"] is None
    return {
        "in_channels": 3,  # networks with additional images add their channels
        "out_channels": fields["out_channels"],
        "model_channels": fields["channels"],
        "channel_mult": fields["channel_mult"],
        "num_res_blocks": fields["res_blocks"],
        "attention_resolutions": tuple(fields["image_size"] // side for side in fields["attention_resolutions"]),
        "num_heads": 1 if has_width else fields["num_heads"],
        "num_head_channels": fields["head_channels"] if has_width else -1,
        "use_scale_shift_norm": fields["scale_shift"],
        "resblock_updown": fields["resblock_updown"],
    }


def load(file: pathlib.Path | str) -> Any:
    """Loads a file written by `torch.save`, memory-mapped if the format allows it."""
    return torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))


def filled(
    network: type[torch.nn.Module], arguments: Mapping[str, Any], state: Mapping[str, torch.Tensor]
) -> torch.nn.Module:
    """Returns a float32 network with the given tensors."""
    with torch.device("meta"):  # skips the initialization, which takes long
        model = network(**arguments)
    model.load_state_dict(state, strict=True, assign=True)
    return model.float().eval()


def conditions_of(given: Inputs) -> list[torch.Tensor | None]:
    """Returns x, t, z, pooled, sequence and mask, or None for inputs that are not given."""
    x = channels_first(given["x"]) if "x" in given else None
    names = ("t", "z", "pooled", "sequence", "mask")
    return [x, *(tensor(given[name]) if name in given else None for name in names)]


def tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array)
