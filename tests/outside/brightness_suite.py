"""A suite of another package, which measures the brightness of images and the length of text embeddings."""

import numpy as np

from unclip_jax.evaluation.suite import Measure, Suite
from unclip_jax.evaluation.table import Column, Table, value_table

PROMPTS = ("a red circle", "a green ring")


def brightness(run):
    means = []
    for start, batch in run.batches([PROMPTS[index % 2] for index in range(run.num_prompts)]):
        images = run.model.generate_images(batch, seed=run.seed, first_image=start)
        means += [float(image.mean()) for image in images]
    return {"darkest": min(means), "brightest": max(means)}


def text_length(run):
    return {"length": float(np.linalg.norm(run.model.encode_text(list(PROMPTS)), axis=1).mean())}


def lines(name, result):
    return [{"image": key, "level": f"{value:.2f}"} for key, value in result.items()]


SUITE = Suite(
    "brightness",
    (
        Measure(
            "text_length",
            text_length,
            value_table(lambda result: f"length {result['length']:.3f}"),
            "length of text embeddings",
            lambda name, result: {"text": {name: result["length"]}},
            generates_images=False,
        ),
        Measure(
            "brightness", brightness, Table((Column("image", 9), Column("level", 7, ">")), lines), "mean gray levels"
        ),
    ),
)
