"""Makes karlo-*.npz: what Karlo's own networks, and diffusers' of the same, answer with drawn weights.

    PYTHONPATH=<checkout of kakaobrain/karlo> python -m tests.golden.make_karlo

Needs `parity`. Each file holds the inputs, the answers, and as JSON who gave them, with what it was built, and each
tensor's name and shape. Nothing of either peer is changed or replaced.
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

from tests.golden.peer import channels_last, commit, fill, pictures, write

KARLO = f"kakaobrain/karlo {commit(karlo)}"
DIFFUSERS = f"diffusers {diffusers.__version__}"
EMBED, LENGTH, CONTEXT, TOKENS = 24, 6, 40, 3
HEIGHT, WIDTH, STEPS = 8, 4, np.array([870, 3])


def inputs() -> dict[str, np.ndarray]:
    """Two rows; the second caption is padded, and its picture's embedding is the one to drop."""
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


def some(*names: str) -> dict[str, np.ndarray]:
    return {name: array for name, array in inputs().items() if name in names}


def tensors(*names: str) -> list[torch.Tensor]:
    return [torch.from_numpy(inputs()[name]) for name in names]


def prior() -> None:
    built = {
        "text_ctx": LENGTH, "xf_width": 32, "xf_layers": 2, "xf_heads": 4, "xf_final_ln": True, "clip_dim": EMBED
    }  # fmt: skip
    model = PriorTransformer(**built)
    shapes = fill(torch.nn.ModuleDict({"model": model}))
    z, t, pooled, sequence, mask = tensors("z", "t", "pooled", "sequence", "mask")
    causal = torch.full((1, LENGTH + 4, LENGTH + 4), float("-inf")).triu(1)
    with torch.inference_mode():
        answer = model(z, t, pooled, sequence, mask, causal)
    write(
        "karlo-prior",
        peer=f"{KARLO} PriorTransformer",
        config={**built, "unseen": {"head_width": 8}},
        shapes=shapes,
        inputs=some("z", "t", "pooled", "sequence", "mask"),
        answers={"answer": answer.numpy()},
    )


def decoder() -> None:
    built = {
        "text_ctx": LENGTH, "xf_width": CONTEXT, "in_channels": 3, "model_channels": 64, "out_channels": 6,
        "num_res_blocks": 2, "attention_resolutions": (2,), "channel_mult": (1, 1.5), "num_heads": -1,
        "num_head_channels": 32, "use_scale_shift_norm": True, "resblock_updown": True, "clip_dim": EMBED,
        "clip_emb_mult": TOKENS, "clip_emb_drop": 0.1,
    }  # fmt: skip
    model = PLMImUNet(**built)
    shapes = fill(torch.nn.ModuleDict({"model": model}))
    t, z, pooled, sequence, mask, drop = tensors("t", "z", "pooled", "sequence", "mask", "drop")
    with torch.inference_mode():
        z = torch.where(drop[:, None], model.cf_param, z)
        answer = model(pictures(inputs()["x"]), t, pooled, sequence, mask, z)
    write(
        "karlo-decoder",
        peer=f"{KARLO} PLMImUNet",
        config={**built, "unseen": {"image_size": 8, "head_channels": 32}},
        shapes=shapes,
        inputs=some("x", "t", "z", "pooled", "sequence", "mask", "drop"),
        answers={"answer": channels_last(answer)},
    )


def upsampler() -> None:
    built = {"channels": 64, "depth": 1, "channels_multiple": [1, 1.5], "dropout": 0.0}
    unused = ("steps", "learn_sigma", "sigma_small", "noise_schedule", "use_kl", "predict_xstart")
    diffusion = types.SimpleNamespace(**dict.fromkeys((*unused, "rescale_learned_sigmas")))
    hparams = types.SimpleNamespace(hparams=types.SimpleNamespace(**built))
    model = ImprovedSupRes64to256ProgressiveModel(types.SimpleNamespace(diffusion=diffusion, model=hparams))
    shapes = fill(model)
    x, t, low_res = pictures(inputs()["x"]), torch.from_numpy(STEPS), pictures(inputs()["low_res"])
    with torch.inference_mode():
        first, last = (network(x, t, low_res) for network in (model.model_first_steps, model.model_last_step))
    write(
        "karlo-upsampler",
        peer=f"{KARLO} ImprovedSupRes64to256ProgressiveModel",
        config={**built, "unseen": {"image_size": 8}},
        shapes=shapes,
        inputs=some("x", "t", "low_res"),
        answers={"first": channels_last(first), "last": channels_last(last)},
    )


def diffusers_prior() -> None:
    model = diffusers.PriorTransformer(
        num_attention_heads=4, attention_head_dim=8, num_layers=2, embedding_dim=EMBED, num_embeddings=LENGTH
    )
    shapes = fill(model)
    z, t, pooled, sequence, mask = tensors("z", "t", "pooled", "sequence", "mask")
    with torch.inference_mode():
        answer = model(z, t, proj_embedding=pooled, encoder_hidden_states=sequence, attention_mask=mask)
        standard = answer.predicted_image_embedding
        raw = model.post_process_latents(standard)
    write(
        "karlo-diffusers-prior",
        peer=f"{DIFFUSERS} PriorTransformer",
        config=dict(model.config),
        shapes=shapes,
        inputs=some("z", "t", "pooled", "sequence", "mask"),
        answers={"answer": standard.numpy(), "raw": raw.numpy()},
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
        answer = unet(
            pictures(inputs()["x"]),
            t,
            encoder_hidden_states=context,
            class_labels=additive,
            attention_mask=torch.nn.functional.pad(mask, (TOKENS, 0), value=True),
        ).sample
    write(
        "karlo-diffusers-decoder",
        peer=f"{DIFFUSERS} UNet2DConditionModel, UnCLIPTextProjModel",
        config={"decoder": dict(unet.config), "text_proj": dict(text_proj.config)},
        shapes=shapes,
        inputs=some("x", "t", "z", "pooled", "sequence", "mask", "drop"),
        answers={"answer": channels_last(answer)},
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
    seen = np.concatenate([inputs()["x"], inputs()["low_res"]], axis=-1)
    with torch.inference_mode():
        answer = model(pictures(seen), torch.from_numpy(STEPS)).sample
    write(
        "karlo-diffusers-upsampler",
        peer=f"{DIFFUSERS} UNet2DModel",
        config=dict(model.config),
        shapes=shapes,
        inputs=some("x", "t", "low_res"),
        answers={"answer": channels_last(answer)},
    )


if __name__ == "__main__":
    for make in (prior, decoder, upsampler, diffusers_prior, diffusers_decoder, diffusers_upsampler):
        make()
