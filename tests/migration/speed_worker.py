"""Times one checkout of the package: reads names of measurements from stdin, one a line, and prints seconds.

Sampling is warm and repeated for at least half a second per answer. A training measurement runs a few steps and
answers the median step, so compiling does not count. Like `worker.py`, it uses only interfaces that stay.
"""

import functools
import json
import math
import pathlib
import statistics
import sys
import tempfile
import time

import numpy as np

import unclip_jax
from unclip_jax.cascades.text_to_image import sample_prior, upsample
from unclip_jax.experiment import load_config, train_stage

CHECKOUT = pathlib.Path(unclip_jax.__file__).parents[1]
PROMPTS = ["a large red circle on a blue background", "a small green star on a white background"]
ONE_CANDIDATE = {"decoder": {"candidates": 1}}
MIN_SECONDS = 0.5
STEPS = 12
# Stage: overrides of its config in configs/shapes/. The networks keep their size.
TRAINING = {
    "clip": ("training.global_batch=32", "data.source=captioned_shapes/contrasts_tiny"),
    "diffusion_prior": ("training.global_batch=64", "data.source=captioned_shapes/tiny"),
    "decoder": ("training.global_batch=16", "data.source=captioned_shapes/tiny"),
    "upsampler_16_to_64": ("training.global_batch=8", "data.source=captioned_shapes/tiny"),
}
SHORT = (
    f"training.steps={STEPS}", "training.log_every=1", "training.eval_every=0", "training.preview_every=0",
    "training.checkpoint_every=100",
)  # fmt: skip


@functools.cache
def cascade():
    return unclip_jax.load_cascade("shapes")


def low_res(size: int, count: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (count, size, size, 3)).astype(np.float32)


def decoder() -> None:
    unclip_jax.text_to_image(
        cascade(), PROMPTS, image_embeddings=embeddings(), sampling=ONE_CANDIDATE, stop_after="decoder"
    )


@functools.cache
def embeddings() -> np.ndarray:
    return np.asarray(sample_prior(cascade(), PROMPTS))


SAMPLING = {
    "prior": lambda: sample_prior(cascade(), PROMPTS),
    "decoder": decoder,
    "upsampler_16_to_64": lambda: upsample(cascade(), low_res(16, 2), size=64),
    "upsampler_64_to_256": lambda: upsample(cascade(), low_res(64, 1), size=256),
    "text_to_image": lambda: unclip_jax.text_to_image(cascade(), PROMPTS[:1]),
}


@functools.cache
def repeats(name: str) -> int:
    """How often a call is repeated per answer. Measured after a first call, which compiles."""
    SAMPLING[name]()
    begun = time.perf_counter()
    SAMPLING[name]()
    return max(1, math.ceil(MIN_SECONDS / (time.perf_counter() - begun)))


def sample(name: str) -> float:
    count = repeats(name)
    begun = time.perf_counter()
    for _ in range(count):
        SAMPLING[name]()
    return (time.perf_counter() - begun) / count


def train(stage: str) -> float:
    """Median time of a step, from the images per second in metrics.jsonl."""
    overrides = (*SHORT, *TRAINING[stage])
    config = load_config(CHECKOUT / "configs" / "shapes" / f"{stage}.py", overrides)
    with tempfile.TemporaryDirectory() as folder:
        train_stage(config, folder, progress=False)
        lines = [json.loads(line) for line in (pathlib.Path(folder) / "metrics.jsonl").read_text().splitlines()]
    speeds = [line["images_per_second"] for line in lines[2:]]
    return config.training.global_batch / statistics.median(speeds)


def main() -> None:
    answers = sys.stdout
    sys.stdout = sys.stderr  # whatever the package prints is no answer
    for line in sys.stdin:
        kind, name = line.split()
        print(sample(name) if kind == "sample" else train(name), file=answers, flush=True)


if __name__ == "__main__":
    main()
