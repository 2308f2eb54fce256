"""Writes the cascade folders of schema 1 that are stored next to this script, for one model of every weight family.

    python -m tests.cascades.schema_1.make FOLDER

Each config has the fields that the code with schema 1 (commit 1e4d8af) wrote when it imported a published model of the
family, with smaller sizes. Parameters are random. The script does not write expected.npz, which contains the result of
`outputs` with that commit:

    git worktree add OLD 1e4d8af
    cd OLD
    PYTHONPATH=REPOSITORY python -c "
    import pathlib, numpy as np
    from tests.cascades.schema_1.outputs import outputs
    np.savez_compressed('expected.npz', **outputs(pathlib.Path('FOLDER')))"
"""

import argparse
import json
import pathlib

import numpy as np

from tests.golden.drawn import gpt2_tokenizer, letters_tokenizer
from tests.randomised import randomise
from unclip_jax import parameters
from unclip_jax.kinds import KINDS
from unclip_jax.models.network import build, parameter_shapes

EMBED, CONTEXT, VOCAB = 8, 12, 64
CLIP_TEXT = {
    "embed_dim": EMBED, "vocab_size": VOCAB, "context_length": CONTEXT, "text_width": 8, "text_layers": 1,
    "text_heads": 2, "text_mlp_ratio": 2.0, "activation": "quick_gelu",
}  # fmt: skip
CLIP_IMAGE = {"image_size": 8, "patch_size": 4, "image_width": 8, "image_layers": 1, "image_heads": 2}
UNET = {
    "channels": 4, "channel_mult": [1], "res_blocks": 1, "attention_resolutions": [8], "head_channels": 2,
    "num_heads": None, "groups": 2, "scale_shift": True, "out_channels": 6,
}  # fmt: skip
GLIDE = {**UNET, "vocab_size": 265, "context_length": CONTEXT, "text_width": 4, "text_layers": 1, "text_heads": 2}
INPAINT = {**GLIDE, "channels": 2, "groups": 1}
ADM = {**UNET, "resblock_updown": True, "num_classes": 5, "context_width": None}
CLASSIFIER = {name: value for name, value in ADM.items() if name not in ("out_channels", "context_width")}
SMALL, LARGE = {"image_size": 8, "in_channels": 3}, {"image_size": 16, "in_channels": 6, "attention_resolutions": []}
TWO_LEVELS = {"channel_mult": [1, 1], "attention_resolutions": [4]}
UPSAMPLER = "upsampler_8_to_16"


def diffusion(schedule: str, predicts: str, variance: str, clip_x0: float) -> dict:
    return {"schedule": schedule, "steps": 1000, "predicts": predicts, "variance": variance, "clip_x0": clip_x0}


EPS = diffusion("cosine", "eps", "learned_range", 1.0)
LINEAR_EPS = diffusion("linear", "eps", "learned_range", 1.0)
KARLO_PRIOR = {
    "embed_dim": EMBED, "text_width": 8, "context_length": CONTEXT, "width": 8, "layers": 1, "heads": 2,
}  # fmt: skip
KARLO_DECODER = {**SMALL, **UNET, "embed_dim": EMBED, "text_width": 8, "context_width": 8, "image_tokens": 2}
KARLO_UPSAMPLER = {
    "image_size": 16, "in_channels": 6, "out_channels": 3, "channels": 2, "channel_mult": [1], "res_blocks": 1,
    "groups": 1, "scale_shift": False,
}  # fmt: skip


def ddpm(steps: int, scale: float) -> dict:
    return {"sampler": "ddpm", "steps": steps, "scale": scale}


FAST = {"sampler": "ddim", "steps": "fast27", "scale": 1.0, "temperature": 0.997}
# {folder: {stage: (kind, model, diffusion, sampling)}}
CASCADES = {
    "karlo": {
        "clip": ("clip", {**dict.fromkeys(CLIP_IMAGE), **CLIP_TEXT}, None, None),
        "diffusion_prior": (
            "diffusion_prior", KARLO_PRIOR, diffusion("cosine", "x0", "fixed_small", 5.0), ddpm(25, 4.0),
        ),
        "decoder": ("decoder", KARLO_DECODER, EPS, ddpm(25, 8.0)),
        UPSAMPLER: ("upsampler", KARLO_UPSAMPLER, diffusion("cosine", "eps", "fixed_small", 1.0), ddpm(7, 1.0)),
    },
    "glide": {
        "base": ("glide", {**GLIDE, **SMALL}, EPS, ddpm(100, 3.0)),
        UPSAMPLER: ("glide", {**GLIDE, **LARGE}, LINEAR_EPS, FAST),
    },
    "glide_inpaint": {
        "base": ("glide", {**INPAINT, **SMALL, "in_channels": 7}, EPS, ddpm(100, 5.0)),
        UPSAMPLER: ("glide", {**INPAINT, **LARGE, "in_channels": 10}, LINEAR_EPS, {**FAST, "sampler": "ddpm"}),
    },
    "guided_diffusion": {
        "base": ("unet", {**ADM, **SMALL, **TWO_LEVELS}, EPS, ddpm(250, 1.0)),
        UPSAMPLER: ("unet", {**ADM, **LARGE, "num_heads": 2}, LINEAR_EPS, ddpm(250, 1.0)),
    },
    "guided_diffusion_classifier": {"classifier": ("noised_classifier", {**CLASSIFIER, **SMALL}, None, None)},
    "clip": {"clip": ("clip", {**CLIP_TEXT, **CLIP_IMAGE, "activation": "gelu"}, None, None)},
}  # fmt: skip


def write_json(path: pathlib.Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n")


def write_params(path: pathlib.Path, kind: str, model: dict, seed: int) -> None:
    shapes = parameter_shapes(build(KINDS.choose(kind).network, model))
    parameters.save(path, randomise(shapes, seed), dtype=np.float16)


def write_cascade(folder: pathlib.Path, stages: dict[str, tuple], **index) -> None:
    """Writes a cascade folder without its tokenizer. `index` contains additional entries of cascade.json."""
    for seed, (name, (kind, model, noise, sampling)) in enumerate(stages.items()):
        (folder / name).mkdir(parents=True)
        config = {"kind": kind, "model": model}
        if sampling is not None:
            config |= {"diffusion": noise, "sampling": sampling}
        write_params(folder / name / "params.safetensors", kind, model, seed)
        if kind == "upsampler":
            config["last_step"] = "params_last.safetensors"
            write_params(folder / name / config["last_step"], kind, model, 10 + seed)
        write_json(folder / name / "config.json", config)
    write_json(folder / "cascade.json", {"schema": 1, "stages": list(stages), **index})


def write_all(root: pathlib.Path) -> None:
    statistics = {"mean": np.linspace(-1, 1, EMBED).tolist(), "std": np.linspace(1, 2, EMBED).tolist()}
    for name, stages in CASCADES.items():
        write_cascade(root / name, stages, **({"embedding_statistics": statistics} if name == "karlo" else {}))
    for name in ("karlo", "clip"):
        letters_tokenizer(root / name / "tokenizer", vocab_size=VOCAB, context_length=CONTEXT)
    for name in ("glide", "glide_inpaint"):
        gpt2_tokenizer(root / name / "tokenizer")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", metavar="FOLDER", type=pathlib.Path, help="folder to write the cascade folders to")
    write_all(parser.parse_args().folder)
