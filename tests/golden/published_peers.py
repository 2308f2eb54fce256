"""What the code that came with published weights answers: one function a family, which loads a stage's file as that
code does, in float32, and asks it.

Each takes a stage, the inputs of `check_published.inputs`, and whether the stage's network for the last step is asked;
it returns tensors by the names of `check_published.ours`. Needs `parity`, and what check_published.PEERS names.
"""

import pathlib
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from tests.golden.peer import channels_last, pictures
from unclip_jax.pretrained.guided_diffusion import unet as guided_diffusion
from unclip_jax.pretrained.karlo import files as karlo_files
from unclip_jax.pretrained.karlo import original as karlo
from unclip_jax.pretrained.layer_rules import with_prefix
from unclip_jax.pretrained.published import PublishedStage
from unclip_jax.pretrained.unet_rules import complete

Answers = dict[str, torch.Tensor]
Given = Mapping[str, np.ndarray]
HALF, FLOAT = 5, 6  # as TorchScript's code numbers the types


def answers(family: str, stage: PublishedStage, given: Given, *, is_last: bool) -> dict[str, np.ndarray]:
    """The answers of one network, float32, pictures with channels last."""
    with torch.no_grad():
        found = FAMILIES[family](stage, given, is_last)
    return {name: channels_last(x) if x.ndim == 4 else x.numpy() for name, x in found.items()}


def hugging_face_clip(stage: PublishedStage, given: Given, is_last: bool) -> Answers:
    import transformers

    model = transformers.CLIPModel.from_pretrained(stage.source, dtype=torch.float32)
    text = model.text_model(input_ids=tensor(given["tokens"]))
    return {
        "image": model.visual_projection(model.vision_model(pictures(given["pixels"])).pooler_output),
        "pooled": model.text_projection(text.pooler_output),
        "sequence": text.last_hidden_state,
        "scale": cosine_scale(model),
    }


def openai_clip(stage: PublishedStage, given: Given, is_last: bool) -> Answers:
    print(f"{stage.source} is TorchScript: the code in the file itself is run")
    model = on_cpu_in_float32(torch.jit.load(stage.source, map_location="cpu"))
    return towers(model, given)


def open_clip(stage: PublishedStage, given: Given, is_last: bool) -> Answers:
    import open_clip

    return towers(open_clip.create_model(f"local-dir:{stage.source}", precision="fp32").eval(), given)


def karlo_diffusers(stage: PublishedStage, given: Given, is_last: bool) -> Answers:
    import diffusers
    from diffusers.pipelines.deprecated.unclip.text_proj import UnCLIPTextProjModel

    folder, kind = pathlib.Path(stage.source), stage.spec.kind
    if kind == "clip":
        return karlo_diffusers_clip(folder, given)
    x, t, z, pooled, sequence, mask = texts_and_pictures(given)
    if kind == "diffusion_prior":
        model = diffusers.PriorTransformer.from_pretrained(folder)
        answer = model(z, t, proj_embedding=pooled, encoder_hidden_states=sequence, attention_mask=mask)
        standard = answer.predicted_image_embedding
        return {"answer": standard, "embedding": model.post_process_latents(standard)}
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
        answer = unet(x, t, encoder_hidden_states=context, class_labels=additive, attention_mask=mask)
        return {"answer": answer.sample}
    model = diffusers.UNet2DModel.from_pretrained(folder.parent / "super_res_last" if is_last else folder)
    return {"answer": model(torch.cat([x, pictures(given["low_res"])], dim=1), t).sample}


def karlo_diffusers_clip(folder: pathlib.Path, given: Given) -> Answers:
    import transformers

    model = transformers.CLIPTextModelWithProjection.from_pretrained(folder, dtype=torch.float32)
    text = model(tensor(given["tokens"]))
    found = {"pooled": text.text_embeds, "sequence": text.last_hidden_state}
    if "pixels" in given:
        image = folder.parent / "image_encoder"
        model = transformers.CLIPVisionModelWithProjection.from_pretrained(image, dtype=torch.float32)
        found["image"] = model(pictures(given["pixels"])).image_embeds
    return found


def karlo_original(stage: PublishedStage, given: Given, is_last: bool) -> Answers:
    from karlo.modules.unet import PLMImUNet, SuperResUNetModel
    from karlo.modules.xf import PriorTransformer

    fields, kind, file = stage.spec.model, stage.spec.kind, pathlib.Path(stage.source)
    state = load(file)["state_dict"]
    x, t, z, pooled, sequence, mask = texts_and_pictures(given)
    if kind == "diffusion_prior":
        length = fields["context_length"]
        built = {"xf_width": fields["width"], "xf_layers": fields["layers"], "xf_heads": fields["heads"]}
        built |= {"text_ctx": length, "xf_final_ln": True, "clip_dim": fields["embed_dim"]}
        causal = torch.full((1, length + 4, length + 4), float("-inf")).triu(1)
        model = filled(PriorTransformer, built, with_prefix(state, karlo.MODEL))
        answer = model(z, t, pooled, sequence, mask, causal)
        (statistics,) = file.parent.glob(f"{karlo_files.STATISTICS}*")
        mean, deviation = load(statistics)
        return {"answer": answer, "embedding": answer * deviation + mean}
    if kind == "decoder":
        built = unet_options(fields) | {
            "text_ctx": sequence.shape[1], "xf_width": fields["context_width"], "clip_dim": fields["embed_dim"],
            "clip_emb_mult": fields["image_tokens"], "clip_emb_drop": 0.1,
        }  # fmt: skip
        model = filled(PLMImUNet, built, with_prefix(state, karlo.MODEL))
        z = torch.where(tensor(given["drop"])[:, None], model.cf_param, z)
        return {"answer": model(x, t, pooled, sequence, mask, z)}
    part = karlo.UPSAMPLER_LAST if is_last else karlo.UPSAMPLER_FIRST
    model = filled(SuperResUNetModel, unet_options(fields) | {"use_middle_attention": False}, with_prefix(state, part))
    return {"answer": model(x, t, pictures(given["low_res"]))}


def glide(stage: PublishedStage, given: Given, is_last: bool) -> Answers:
    import types

    from glide_text2im import text2im_model as peer

    fields = stage.spec.model
    kinds = {
        3: peer.Text2ImUNet, 6: peer.SuperResText2ImUNet, 7: peer.InpaintText2ImUNet,
        10: peer.SuperResInpaintText2ImUnet,
    }  # fmt: skip
    built = unet_options(fields) | {
        # The networks ask their tokenizer for its size alone.
        "tokenizer": types.SimpleNamespace(n_vocab=fields["vocab_size"]), "text_ctx": fields["context_length"],
        "xf_width": fields["text_width"], "xf_layers": fields["text_layers"], "xf_heads": fields["text_heads"],
        "xf_final_ln": True, "xf_padding": True,
    }  # fmt: skip
    model = filled(kinds[fields["in_channels"]], built, load(stage.source))
    names = {"low_res": "low_res", "known": "inpaint_image", "known_mask": "inpaint_mask"}
    behind = {theirs: pictures(given[ours]) for ours, theirs in names.items() if ours in given}
    tokens, mask = tensor(given["tokens"]), tensor(given["mask"])
    return {"answer": model(pictures(given["x"]), tensor(given["t"]), tokens=tokens, mask=mask, **behind)}


def guided_diffusion_unet(stage: PublishedStage, given: Given, is_last: bool) -> Answers:
    from guided_diffusion.unet import EncoderUNetModel, SuperResModel, UNetModel

    fields = stage.spec.model
    built = unet_options(fields) | {"image_size": fields["image_size"]}
    conditions = {}
    if stage.spec.kind == "noised_classifier":
        kind, built = EncoderUNetModel, built | {"out_channels": fields["num_classes"], "pool": "attention"}
    else:
        name = pathlib.Path(stage.source).stem
        built["num_classes"] = fields["num_classes"]
        built["use_new_attention_order"] = name in guided_diffusion.NEW_ATTENTION_ORDER
        kind = SuperResModel if "low_res" in given else UNetModel
        conditions |= {"low_res": pictures(given["low_res"])} if "low_res" in given else {}
        conditions |= {"y": tensor(given["labels"])} if "labels" in given else {}
    model = filled(kind, built, load(stage.source))
    return {"answer": model(pictures(given["x"]), tensor(given["t"]), **conditions)}


FAMILIES = {
    "CLIP in Hugging Face's layout": hugging_face_clip,
    "CLIP in OpenAI's layout": openai_clip,
    "CLIP in OpenCLIP's layout": open_clip,
    "Karlo in diffusers' layout": karlo_diffusers,
    "Karlo in its own layout": karlo_original,
    "GLIDE": glide,
    "guided-diffusion": guided_diffusion_unet,
}


def towers(model: Any, given: Given) -> Answers:
    """Of a CLIP with OpenAI's methods."""
    image, pooled = model.encode_image(pictures(given["pixels"])), model.encode_text(tensor(given["tokens"]))
    return {"image": image, "pooled": pooled, "scale": cosine_scale(model)}


def cosine_scale(model: Any) -> torch.Tensor:
    """As CLIP's training limits it; in float16 the parameter may lie above."""
    return model.logit_scale.detach().exp().clamp(max=100.0)


def on_cpu_in_float32(model: torch.jit.ScriptModule) -> torch.jit.ScriptModule:
    """OpenAI's code was traced on a GPU in float16, and constants in it say so: those are changed, and nothing else."""
    for module in model.modules():
        for name in module._c._method_names():
            graph = module._c._get_method(name).graph
            for node in graph.findAllNodes("prim::Constant"):
                if node.output().type().kind() == "DeviceObjType":
                    node.s_("value", "cpu")
            for node in graph.findAllNodes("aten::to"):
                for value in list(node.inputs())[1:3]:  # one of both is the type
                    is_constant = value.node().kind() == "prim::Constant" and value.type().kind() == "IntType"
                    if is_constant and value.node().i("value") == HALF:
                        value.node().i_("value", FLOAT)
    return model.float().eval()


def unet_options(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of guided-diffusion's U-Net, whose code GLIDE and Karlo took over, for fields of ours."""
    fields = complete(fields)
    has_width = fields["num_heads"] is None
    return {
        "in_channels": 3,  # those that see more pictures add them themselves
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
    """What torch.save wrote, its numbers left on the disk until they are used where the format allows it."""
    return torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))


def filled(kind: type[torch.nn.Module], built: Mapping[str, Any], state: Mapping[str, torch.Tensor]) -> torch.nn.Module:
    """The network that `built` describes with exactly these tensors, as float32; drawing others first takes long."""
    with torch.device("meta"):
        model = kind(**built)
    model.load_state_dict(state, strict=True, assign=True)
    return model.float().eval()


def texts_and_pictures(given: Given) -> list[torch.Tensor | None]:
    """x, t, z, pooled, sequence and mask, as far as they are given."""
    x = pictures(given["x"]) if "x" in given else None
    names = ("t", "z", "pooled", "sequence", "mask")
    return [x, *(tensor(given[name]) if name in given else None for name in names)]


def tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array)
