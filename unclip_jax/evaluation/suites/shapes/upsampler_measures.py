"""Measures of single upsamplers, whose inputs are true images downscaled to a quarter of the size."""

import dataclasses
import functools
from typing import Any

import numpy as np

from unclip_jax import images
from unclip_jax.data.captioned_shapes.scene import sample_scene
from unclip_jax.evaluation.suite import Measure, Run
from unclip_jax.evaluation.suites.shapes.prompts import stream
from unclip_jax.evaluation.suites.shapes.scenes import colors, true_image, upsampler_input
from unclip_jax.evaluation.table import Result, percent, value_table
from unclip_jax.evaluation.upsampling_quality import upsampling_quality

SIZES = {"upsampler_16_to_64": 64, "upsampler_64_to_256": 256}


def quality(run: Run, name: str) -> dict[str, Any]:
    """Computes the fields of `UpsamplingQuality` for one upsampler, given its name in SIZES."""
    rng, size = stream(name, run.seed), SIZES[name]
    scenes = [sample_scene(rng) for _ in range(run.num_prompts)]
    true = np.stack([true_image(scene, size) for scene in scenes])
    upsampled, bicubic = [], []
    for start, batch in run.batches(true):
        low_res = np.stack([upsampler_input(image) for image in batch])
        upsampled.append(np.asarray(run.model.upsample(low_res, size=size, seed=run.seed, first_image=start)))
        bicubic.append(np.asarray(images.to_uint8(images.resize(low_res, size))))
    return dataclasses.asdict(
        upsampling_quality(np.concatenate(upsampled), np.concatenate(bicubic), true, list(map(colors, scenes)))
    )


def _text(result: Result) -> str:
    closed = result["gap_closed"]
    gap = "no gap" if closed is None else f"{percent(closed)} of the gap closed"
    return (
        f"{result['psnr_gain']:+.2f} dB over bicubic ({result['psnr_bicubic']:.2f} dB); flat pixels "
        f"{percent(result['flat'])}, bicubic {percent(result['flat_bicubic'])}, "
        f"true images {percent(result['flat_true'])}: {gap} (n {result['n']})"
    )


MEASURES = tuple(
    Measure(
        name,
        functools.partial(quality, name=name),
        value_table(_text),
        f"only the upsampler to {size} px, compared with bicubic upsampling of the same inputs",
        generates_images=False,
    )
    for name, size in SIZES.items()
)
