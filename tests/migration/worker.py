"""Runs cases of the comparison in one checkout of the package and saves their results.

    PYTHONPATH=CHECKOUT python worker.py RESULTS.npz --state STATE --scratch SCRATCH [--quick] CASE ...

Every checkout runs this same file, so it uses only interfaces that stay: the public functions of `unclip_jax`, the
command line, config fields and file formats. STATE holds folders that the base commit wrote (see `prepare`), SCRATCH
is emptied first. Each result is named CASE/...; its dtype and the last part of its name choose the tolerance.
"""

import argparse
import json
import os
import pathlib
import runpy
import shutil

import jax
import numpy as np

import unclip_jax
from unclip_jax.__main__ import main as unclip
from unclip_jax.cascades.text_to_image import sample_prior, upsample

CHECKOUT = pathlib.Path(unclip_jax.__file__).parents[1]
SCHEMA_1 = pathlib.Path(__file__).parents[1] / "cascades" / "schema_1"
# One object, two objects, and pairs of shape and color that no training stage contained.
PROMPTS = (
    "a large red circle on a blue background",
    "a large purple circle on a yellow background",
    "a small green star on a white background",
    "a large blue square to the left of a small yellow triangle on a black background",
    "a small white ring above a large orange cross on a purple background",
    "a large white triangle on a red background",
    "a small blue star to the right of a large green ring on a white background",
    "a small red cross below a large orange square on a black background",
)
QUICK_PROMPTS = (PROMPTS[3], PROMPTS[5])
STAGES = ("decoder", "upsampler_16_to_64", "upsampler_64_to_256")
ONE_CANDIDATE = {"decoder": {"candidates": 1}, "diffusion_prior": {"candidates": 1}}
SHORT = (
    "training.global_batch=8", "training.eval_every=0", "training.preview_every=0", "training.checkpoint_every=2",
    "training.log_every=1", "data.source=captioned_shapes/tiny", "data.threads=0",
)  # fmt: skip
TEXT = ("model.embed_dim=16", "model.text_width=16")
# Stage: overrides that make its config in configs/shapes/ tiny. Relative paths start in STATE.
TINY = {
    "clip": (
        *TEXT, "model.image_width=16", "model.image_layers=1", "model.text_layers=1",
        "data.source=captioned_shapes/contrasts_tiny",
    ),
    "diffusion_prior": (*TEXT, "model.width=24", "model.layers=1", "frozen.clip=tiny"),
    "decoder": (
        *TEXT, "model.channels=16", "model.channel_mult=(1, 1)", "model.res_blocks=1", "model.groups=8",
        "model.attention_resolutions=(8,)", "model.head_channels=16", "model.context_width=16", "frozen.clip=tiny",
    ),
    "upsampler_16_to_64": ("model.channels=16", "model.channel_mult=(1, 1)", "model.groups=8"),
}  # fmt: skip
FEW_STEPS = {"prior": 3, "decoder": 3, "upsampler_16_to_64": 2}


def scene(size: int) -> np.ndarray:
    """A red disk and a yellow square on blue, uint8 [size, size, 3], antialiased by averaging 4x4 samples."""
    y, x = (np.mgrid[: 4 * size, : 4 * size] + 0.5) / (4 * size)
    image = np.full((4 * size, 4 * size, 3), (30, 80, 225), np.float64)
    image[(x - 0.3) ** 2 + (y - 0.55) ** 2 < 0.19**2] = (220, 30, 40)
    image[(abs(x - 0.72) < 0.13) & (abs(y - 0.4) < 0.13)] = (255, 235, 40)
    return np.round(image.reshape(size, 4, size, 4, 3).mean((1, 3))).astype(np.uint8)


def shapes(args: argparse.Namespace) -> dict:
    """Every stage of the bundled cascade, with one candidate and with the cascade's own four."""
    cascade, prompts = unclip_jax.load_cascade("shapes"), list(QUICK_PROMPTS if args.quick else PROMPTS)
    clip = unclip_jax.load_clip("shapes")
    wanted = np.asarray(unclip_jax.encode_text(clip, prompts))
    found = {"text_embedding": wanted, "prior_embedding": np.asarray(sample_prior(cascade, prompts, seed=7))}
    for stage in STAGES:
        found[f"one/{stage}"] = unclip_jax.text_to_image(
            cascade, prompts, seed=1, sampling=ONE_CANDIDATE, stop_after=stage
        )
        found[f"four/{stage}"] = unclip_jax.text_to_image(cascade, prompts, seed=2, stop_after=stage)
        chosen = np.asarray(unclip_jax.encode_image(clip, found[f"four/{stage}"]))
        lengths = np.linalg.norm(chosen, axis=-1) * np.linalg.norm(wanted, axis=-1)
        found[f"four/{stage}_score"] = np.sum(chosen * wanted, axis=-1) / lengths
    found["two_of_prior"] = unclip_jax.text_to_image(
        cascade, prompts, candidates=2, sampling={"decoder": {"candidates": 1}}, stop_after="decoder"
    )
    return found


def variations(args: argparse.Namespace) -> dict:
    """Variations of a scene, and its CLIP embedding."""
    image, cascade = scene(256), unclip_jax.load_cascade("shapes")
    made = unclip_jax.variations(
        cascade, image, count=2, seed=3, sampling={"decoder": {"candidates": 1}}, stop_after="upsampler_16_to_64"
    )
    return {
        "upsampler_16_to_64": made,
        "image_embedding": np.asarray(unclip_jax.encode_image(unclip_jax.load_clip("shapes"), image[None])),
    }


def upsamplers(args: argparse.Namespace) -> dict:
    """Each upsampler alone, from true low-resolution images."""
    cascade = unclip_jax.load_cascade("shapes")

    def upsampled(small: int, large: int) -> np.ndarray:
        return upsample(cascade, np.float32(scene(small)[None] / 127.5 - 1), size=large, seed=4)

    return {"16_to_64": upsampled(16, 64), "64_to_256": upsampled(64, 256)}


def families(args: argparse.Namespace) -> dict:
    """Tiny cascades of every weight family: Karlo, GLIDE, guided-diffusion, CLIP."""
    return runpy.run_path(str(SCHEMA_1 / "outputs.py"))["outputs"](SCHEMA_1)


def compilations(args: argparse.Namespace) -> dict:
    """Number of programs compiled by each call of a series in a fresh process without the persistent cache."""
    counted = []

    def listen(event: str, duration: float, **_: object) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            counted.append(duration)

    jax.monitoring.register_event_duration_secs_listener(listen)
    tiny, glide, adm = (unclip_jax.load_cascade(SCHEMA_1 / name) for name in ("karlo", "glide", "guided_diffusion"))
    few = {"prior": 3, "decoder": 3, "upsampler_8_to_16": 3}
    more = {"prior": 5, "decoder": 7, "upsampler_8_to_16": 4}
    calls = {
        "load": lambda: None,
        "first": lambda: unclip_jax.text_to_image(tiny, ["a red"], steps=few),
        "prompt": lambda: unclip_jax.text_to_image(tiny, ["ring"], steps=few),
        "settings": lambda: unclip_jax.text_to_image(tiny, ["ring"], seed=5, decoder_scale=2.5, steps=more),
        "glide": lambda: unclip_jax.text_to_image(glide, ["a red"], steps={"base": 3, "upsampler_8_to_16": 3}),
        "glide_settings": lambda: unclip_jax.text_to_image(
            glide, ["ring"], seed=2, decoder_scale=2.5, steps={"base": 4, "upsampler_8_to_16": 2}
        ),
        "classes": lambda: unclip_jax.class_to_image(adm, [1], steps={"base": 3, "upsampler_8_to_16": 3}),
        "classes_settings": lambda: unclip_jax.class_to_image(adm, [2], steps={"base": 4, "upsampler_8_to_16": 2}),
    }
    found, before = {}, 0
    for name, call in calls.items():
        call()
        found[f"{name}_count"], before = np.asarray(len(counted) - before), len(counted)
    return found


def train(stage: str, workdir: pathlib.Path, steps: int) -> list[dict]:
    """Trains a tiny stage up to `steps` and returns the lines of metrics.jsonl."""
    overrides = [f"--config.{field}" for field in (*SHORT, *TINY[stage], f"training.steps={steps}")]
    config = CHECKOUT / "configs" / "shapes" / f"{stage}.py"
    code = unclip(["train", f"--config={config}", f"--workdir={workdir}", *overrides])
    assert code == 0, f"unclip train {stage} returned {code}"
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def metrics_of(stage: str, lines: list[dict]) -> dict:
    return {f"{stage}/{name}": np.asarray([line[name] for line in lines]) for name in ("loss", "grad_norm")}


def training(args: argparse.Namespace) -> dict:
    """Losses and gradient norms of the first steps of each task."""
    found = {}
    for stage in TINY:
        found |= metrics_of(stage, train(stage, args.scratch / stage, 1 if args.quick else 3))
    return found


def package(*arguments: str | pathlib.Path) -> None:
    code = unclip(["package", *map(str, arguments)])
    assert code == 0, f"unclip package returned {code}"


def prepare(args: argparse.Namespace) -> dict:
    """Writes into STATE what both versions read; only the base runs this.

    `tiny`: a packaged CLIP. `begun`: a workdir of each task after two steps. `packaged`: the cascade of these workdirs.
    """
    for name in ("tiny", "begun", "packaged"):
        shutil.rmtree(args.state / name, ignore_errors=True)
    train("clip", args.state / "begun" / "clip", 2)
    package(args.state / "begun" / "clip", "--out", args.state / "tiny")
    for stage in TINY:
        train(stage, args.state / "begun" / stage, 2)
    package(*(args.state / "begun" / stage for stage in TINY), "--out", args.state / "packaged")
    return {}


def resume(args: argparse.Namespace) -> dict:
    """Losses of runs that the base began and this version resumes, and images of the packaged stages."""
    found = {}
    for stage in TINY:
        workdir = args.scratch / f"resumed_{stage}"
        shutil.copytree(args.state / "begun" / stage, workdir)
        found |= metrics_of(stage, train(stage, workdir, 4))
    resumed = [args.scratch / f"resumed_{stage}" for stage in TINY if stage != "clip"]
    package(*resumed, "--clip", "tiny", "--out", args.scratch / "packaged")
    for name, folder in (("base_cascade", args.state / "packaged"), ("resumed_cascade", args.scratch / "packaged")):
        cascade = unclip_jax.load_cascade(folder)
        one = {"decoder": {"candidates": 1}}
        found[name] = unclip_jax.text_to_image(cascade, [PROMPTS[0]], steps=FEW_STEPS, sampling=one)
    return found


CASES = {
    case.__name__: case for case in (prepare, shapes, variations, upsamplers, families, training, compilations, resume)
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("results", type=pathlib.Path)
    parser.add_argument("cases", nargs="+", choices=CASES)
    parser.add_argument("--state", type=pathlib.Path, required=True)
    parser.add_argument("--scratch", type=pathlib.Path, required=True)
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    expected = pathlib.Path(os.environ["PYTHONPATH"].split(os.pathsep)[0])
    assert expected.samefile(CHECKOUT), f"unclip_jax comes from {CHECKOUT}, not {expected}"
    shutil.rmtree(args.scratch, ignore_errors=True)
    os.chdir(args.state)
    results = {}
    for case in args.cases:
        results |= {f"{case}/{name}": value for name, value in CASES[case](args).items()}
    partial = args.results.with_suffix(".partial.npz")
    np.savez_compressed(partial, **results)
    partial.rename(args.results)


if __name__ == "__main__":
    main()
