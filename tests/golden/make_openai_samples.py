"""Writes images and tokens of the original code of GLIDE and guided-diffusion with random weights and noise.

    PYTHONPATH=<clone of openai/glide-text2im>:<clone of openai/guided-diffusion> \
        python -m tests.golden.make_openai_samples

    glide-samples.npz, guided-diffusion-samples.npz    64 px images, and 256 px images upsampled from them
    glide-tokens.npz                                   tokens of GLIDE's tokenizer

Needs the extra `parity`. The first two files contain the 64 px images, every fourth pixel of the 256 px images and, as
JSON, the commit of the original code and the names and shapes of the tensors, with the file as prefix. The original
code is unchanged, except that `noise` replaces `torch.randn_like`.
"""

import json
import pathlib
import tempfile

import glide_text2im
import guided_diffusion
import numpy as np
import torch
from glide_text2im.model_creation import create_gaussian_diffusion as glide_diffusion
from glide_text2im.text2im_model import SuperResText2ImUNet, Text2ImUNet
from glide_text2im.tokenizer.bpe import Encoder
from guided_diffusion.script_util import create_gaussian_diffusion as guided_diffusion_process
from guided_diffusion.unet import SuperResModel, UNetModel

from tests.golden.drawn import gpt2_tokenizer, noise
from tests.golden.recording import HERE, channels_last, commit, fill

PROMPTS = ["a red circle", "Red  cirle, 2!"]
TEXTS = [*PROMPTS, "", "It's  the RED\tcar\n", "naïve — 12³ \U0001f600 ﬁ", "\u2028x  ", "a" * 50 + " red" * 20]
LABELS, CLASSES = [4, 1], 5
LENGTH, SCALE, TEMPERATURE = 20, 3.0, 0.997
# The second section has one step, so sampling starts at step 500. At step 999, a division by 0.00005 would amplify
# rounding errors.
STEPS, LARGE_STEPS = "4,1", "8,1"
COMMON = {
    "model_channels": 32, "out_channels": 6, "num_res_blocks": 1, "use_scale_shift_norm": True, "resblock_updown": True,
}  # fmt: skip
SMALL = {**COMMON, "in_channels": 3, "channel_mult": (1, 2), "attention_resolutions": (2,)}
LARGE = {**COMMON, "in_channels": 3, "channel_mult": (1, 1, 1, 2), "attention_resolutions": (8,)}
TEXT = {
    "text_ctx": LENGTH, "xf_width": 128, "xf_layers": 2, "xf_heads": 2, "xf_final_ln": True, "xf_padding": True,
    "num_head_channels": 64,
}  # fmt: skip


def injected(stage: str, rows: int, side: int, twice: bool):
    """Returns a replacement for `torch.randn_like` that returns draw 0, 1, ... of a stage."""
    draws = iter(range(10_000))

    def draw(_=None) -> torch.Tensor:
        array = torch.from_numpy(noise(stage, next(draws), (rows, side, side, 3))).permute(0, 3, 1, 2)
        return torch.cat([array, array]) if twice else array

    return draw


def sample(loop, network, stage: str, side: int, *, temperature: float = 1.0, twice: bool = False, **conditions):
    """Runs an original sampling loop with `noise`, which `twice` repeats for both halves of a guided batch."""
    draw = injected(stage, 2, side, twice)
    original, initial = torch.randn_like, draw() * temperature
    torch.randn_like = draw
    try:
        with torch.no_grad():
            samples = loop(network, tuple(initial.shape), noise=initial, device="cpu", model_kwargs=conditions)[:2]
    finally:
        torch.randn_like = original
    return samples


def quantize(images: torch.Tensor) -> torch.Tensor:
    """Rounds images in [-1, 1] to 256 levels."""
    return ((images + 1) * 127.5).round() / 127.5 - 1


def write(name: str, implementation: str, shapes: dict, small: torch.Tensor, large: torch.Tensor) -> None:
    for size, images in (("small", small), ("large", large)):
        within = ((images * 127.5).abs() < 125.5).float().mean()
        print(f"{name}, {size}: {within:.0%} of the values are between 2 and 253")
    about = {
        "peer": implementation, "shapes": shapes, "prompts": PROMPTS, "labels": LABELS, "scale": SCALE,
        "steps": STEPS, "large_steps": LARGE_STEPS,
    }  # fmt: skip
    np.savez_compressed(
        HERE / f"{name}.npz",
        about=json.dumps(about, indent=1),
        small=channels_last(small),
        large=channels_last(large)[:, ::4, ::4],
    )


def glide() -> None:
    with tempfile.TemporaryDirectory() as folder:
        folder = gpt2_tokenizer(pathlib.Path(folder))
        vocab = json.loads((folder / "vocab.json").read_text())
        merges = [tuple(line.split()) for line in (folder / "merges.txt").read_text().splitlines()[1:]]
    encoder = Encoder(vocab, merges)
    rows = [encoder.padded_tokens_and_mask(encoder.encode(text), LENGTH) for text in TEXTS]
    tokens, mask = (np.array(part) for part in zip(*rows, strict=True))
    about = {"peer": f"openai/glide-text2im {commit(glide_text2im)} Encoder", "texts": TEXTS}
    np.savez_compressed(HERE / "glide-tokens.npz", about=json.dumps(about), tokens=tokens, mask=mask)

    base = Text2ImUNet(tokenizer=encoder, **SMALL, **TEXT)
    upsampler = SuperResText2ImUNet(tokenizer=encoder, **LARGE, **TEXT)
    shapes = fill(base, "base.") | fill(upsampler, "upsample.")
    prompts, empty = [0, 1], [2, 2]
    guided = {"tokens": torch.from_numpy(tokens[prompts + empty]), "mask": torch.from_numpy(mask[prompts + empty])}
    captions = {name: value[:2] for name, value in guided.items()}

    def guided_network(x, t, **conditions):
        half = x[:2]
        eps, rest = base(torch.cat([half, half]), t, **conditions).split(3, dim=1)
        conditional, unconditional = eps.chunk(2)
        eps = unconditional + SCALE * (conditional - unconditional)
        return torch.cat([torch.cat([eps, eps]), rest], dim=1)

    process = glide_diffusion(1000, "squaredcos_cap_v2", STEPS)
    small = sample(process.p_sample_loop, guided_network, "base", 64, twice=True, **guided)
    process = glide_diffusion(1000, "linear", LARGE_STEPS)
    large = sample(
        process.ddim_sample_loop,
        upsampler,
        "upsample",
        256,
        temperature=TEMPERATURE,
        low_res=quantize(small),
        **captions,
    )
    write("glide-samples", f"openai/glide-text2im {commit(glide_text2im)}", shapes, small, large)


def adm() -> None:
    base = UNetModel(**SMALL, image_size=64, num_classes=CLASSES, num_head_channels=64, use_new_attention_order=True)
    upsampler = SuperResModel(**{**LARGE, "image_size": 256, "num_classes": CLASSES, "num_heads": 4})
    shapes = fill(base, "64x64_diffusion.") | fill(upsampler, "64_256_upsampler.")
    labels = torch.tensor(LABELS)

    def process(schedule: str, steps: str):
        return guided_diffusion_process(steps=1000, learn_sigma=True, noise_schedule=schedule, timestep_respacing=steps)

    small = sample(process("cosine", STEPS).p_sample_loop, base, "base", 64, y=labels)
    large = sample(
        process("linear", LARGE_STEPS).p_sample_loop, upsampler, "upsample", 256, low_res=quantize(small), y=labels
    )
    write("guided-diffusion-samples", f"openai/guided-diffusion {commit(guided_diffusion)}", shapes, small, large)


if __name__ == "__main__":
    glide()
    adm()
