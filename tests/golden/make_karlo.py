"""Writes karlo-*.npz: outputs of Karlo's networks with random weights, from Karlo's code and from diffusers.

    PYTHONPATH=<clone of kakaobrain/karlo> python -m tests.golden.make_karlo

Needs the extra `parity`. Each file contains the inputs, the outputs and, as JSON, the commit or version of the
implementation, the arguments of the network, and the names and shapes of its tensors. The implementations are
unchanged.
"""

import types

import diffusers
import karlo
import numpy as np
import torch
from diffusers.pipelines.deprecated.unclip.text_proj import UnCLIPTextProjModel
from karlo.models.sr_64_256 import ImprovedSupRes64to256ProgressiveModel
from karlo.modules.unet import PLMImUNet
from karlo.modules.xf import PriorTransformer

from tests.golden.recording import channels_first, channels_last, commit, fill, write

KARLO = f"kakaobrain/karlo {commit(karlo)}"
DIFFUSERS = f"diffusers {diffusers.__version__}"
EMBED, LENGTH, CONTEXT, TOKENS = 24, 6, 40, 3
HEIGHT, WIDTH, STEPS = 8, 4, np.array([870, 3])


def inputs() -> dict[str, np.ndarray]:
    """Returns two rows. In the second row, the caption is padded and the image embedding is dropped."""
    rng = np.random.default_rng(0)

    def normal(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    return {
        "x": normal(2, HEIGHT, WIDTH, 3),
        "low_res": normal(2, HEIGHT, WIDTH, 3),
        "t": STEPS,
        "z": normal(2, EMBED),
        "pooled": normal(2, EMBED),
        "sequence": normal(2, LENGTH, EMBED),
        "mask": np.arange(LENGTH) < np.array([[LENGTH], [3]]),
        "drop": np.array([False, True]),
    }


def select(*names: str) -> dict[str, np.ndarray]:
    return {name: array for name, array in inputs().items() if name in names}


def tensors(*names: str) -> list[torch.Tensor]:
    return [torch.from_numpy(inputs()[name]) for name in names]


def prior() -> None:
    arguments = {
        "text_ctx": LENGTH, "xf_width": 32, "xf_layers": 2, "xf_heads": 4, "xf_final_ln": True, "clip_dim": EMBED
    }  # fmt: skip
    model = PriorTransformer(**arguments)
    shapes = fill(torch.nn.ModuleDict({"model": model}))
    z, t, pooled, sequence, mask = tensors("z", "t", "pooled", "sequence", "mask")
    causal = torch.full((1, LENGTH + 4, LENGTH + 4), float("-inf")).triu(1)
    with torch.inference_mode():
        output = model(z, t, pooled, sequence, mask, causal)
    write(
        "karlo-prior",
        implementation=f"{KARLO} PriorTransformer",
        config={**arguments, "unseen": {"head_width": 8}},
        shapes=shapes,
        inputs=select("z", "t", "pooled", "sequence", "mask"),
        outputs={"answer": output.numpy()},
    )


def decoder() -> None:
    arguments = {
        "text_ctx": LENGTH, "xf_width": CONTEXT, "in_channels": 3, "model_channels": 64, "out_channels": 6,
        "num_res_blocks": 2, "attention_resolutions": (2,), "channel_mult": (1, 1.5), "num_heads": -1,
        "num_head_channels": 32, "use_scale_shift_norm": True, "resblock_updown": True, "clip_dim": EMBED,
        "clip_emb_mult": TOKENS, "clip_emb_drop": 0.1,
    }  # fmt: skip
    model = PLMImUNet(**arguments)
    shapes = fill(torch.nn.ModuleDict({"model": model}))
    t, z, pooled, sequence, mask, drop = tensors("t", "z", "pooled", "sequence", "mask", "drop")
    with torch.inference_mode():
        z = torch.where(drop[:, None], model.cf_param, z)
        output = model(channels_first(inputs()["x"]), t, pooled, sequence, mask, z)
    write(
        "karlo-decoder",
        implementation=f"{KARLO} PLMImUNet",
        config={**arguments, "unseen": {"image_size": 8, "head_channels": 32}},
        shapes=shapes,
        inputs=select("x", "t", "z", "pooled", "sequence", "mask", "drop"),
        outputs={"answer": channels_last(output)},
    )


def upsampler() -> None:
    arguments = {"channels": 64, "depth": 1, "channels_multiple": [1, 1.5], "dropout": 0.0}
    unused = ("steps", "learn_sigma", "sigma_small", "noise_schedule", "use_kl", "predict_xstart")
    diffusion = types.SimpleNamespace(**dict.fromkeys((*unused, "rescale_learned_sigmas")))
    hparams = types.SimpleNamespace(hparams=types.SimpleNamespace(**arguments))
    model = ImprovedSupRes64to256ProgressiveModel(types.SimpleNamespace(diffusion=diffusion, model=hparams))
    shapes = fill(model)
    x, t, low_res = channels_first(inputs()["x"]), torch.from_numpy(STEPS), channels_first(inputs()["low_res"])
    with torch.inference_mode():
        first, last = (network(x, t, low_res) for network in (model.model_first_steps, model.model_last_step))
    write(
        "karlo-upsampler",
        implementation=f"{KARLO} ImprovedSupRes64to256ProgressiveModel",
        config={**arguments, "unseen": {"image_size": 8}},
        shapes=shapes,
        inputs=select("x", "t", "low_res"),
        outputs={"first": channels_last(first), "last": channels_last(last)},
    )


def diffusers_prior() -> None:
    model = diffusers.PriorTransformer(
        num_attention_heads=4, attention_head_dim=8, num_layers=2, embedding_dim=EMBED, num_embeddings=LENGTH
    )
    shapes = fill(model)
    z, t, pooled, sequence, mask = tensors("z", "t", "pooled", "sequence", "mask")
    with torch.inference_mode():
        output = model(z, t, proj_embedding=pooled, encoder_hidden_states=sequence, attention_mask=mask)
        standardized = output.predicted_image_embedding
        raw = model.post_process_latents(standardized)
    write(
        "karlo-diffusers-prior",
        implementation=f"{DIFFUSERS} PriorTransformer",
        config=dict(model.config),
        shapes=shapes,
        inputs=select("z", "t", "pooled", "sequence", "mask"),
        outputs={"answer": standardized.numpy(), "raw": raw.numpy()},
    )


def diffusers_decoder() -> None:
    unet = diffusers.UNet2DConditionModel(
        sample_size=8,
        in_channels=3,
        out_channels=6,
        block_out_channels=(32, 48),
        layers_per_block=2,
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        cross_attention_dim=CONTEXT,
        attention_head_dim=16,
        class_embed_type="identity",
        resnet_time_scale_shift="scale_shift",
        norm_num_groups=16,
    )
    text_proj = UnCLIPTextProjModel(
        clip_extra_context_tokens=TOKENS, clip_embeddings_dim=EMBED, time_embed_dim=128, cross_attention_dim=CONTEXT
    )
    shapes = fill(unet, "decoder.") | fill(text_proj, "text_proj.")
    t, z, pooled, sequence, mask, drop = tensors("t", "z", "pooled", "sequence", "mask", "drop")
    with torch.inference_mode():
        context, additive = text_proj(
            image_embeddings=torch.where(drop[:, None], text_proj.learned_classifier_free_guidance_embeddings, z),
            prompt_embeds=pooled,
            text_encoder_hidden_states=sequence,
            do_classifier_free_guidance=False,
        )
        output = unet(
            channels_first(inputs()["x"]),
            t,
            encoder_hidden_states=context,
            class_labels=additive,
            attention_mask=torch.nn.functional.pad(mask, (TOKENS, 0), value=True),
        ).sample
    write(
        "karlo-diffusers-decoder",
        implementation=f"{DIFFUSERS} UNet2DConditionModel, UnCLIPTextProjModel",
        config={"decoder": dict(unet.config), "text_proj": dict(text_proj.config)},
        shapes=shapes,
        inputs=select("x", "t", "z", "pooled", "sequence", "mask", "drop"),
        outputs={"answer": channels_last(output)},
    )


def diffusers_upsampler() -> None:
    model = diffusers.UNet2DModel(
        sample_size=8,
        in_channels=6,
        out_channels=3,
        block_out_channels=(32, 48),
        layers_per_block=1,
        down_block_types=("ResnetDownsampleBlock2D",) * 2,
        up_block_types=("ResnetUpsampleBlock2D",) * 2,
        add_attention=False,
        norm_num_groups=16,
    )
    shapes = fill(model)
    x = np.concatenate([inputs()["x"], inputs()["low_res"]], axis=-1)
    with torch.inference_mode():
        output = model(channels_first(x), torch.from_numpy(STEPS)).sample
    write(
        "karlo-diffusers-upsampler",
        implementation=f"{DIFFUSERS} UNet2DModel",
        config=dict(model.config),
        shapes=shapes,
        inputs=select("x", "t", "low_res"),
        outputs={"answer": channels_last(output)},
    )


if __name__ == "__main__":
    for make in (prior, decoder, upsampler, diffusers_prior, diffusers_decoder, diffusers_upsampler):
        make()
