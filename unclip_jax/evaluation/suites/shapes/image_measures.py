"""Measures that do not compare images with captions: diversity, flatness and unnamed attributes."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from unclip_jax.data.captioned_shapes.drawing import draw
from unclip_jax.data.captioned_shapes.scene import SHAPES, Object, Scene, sample_scene
from unclip_jax.evaluation.diversity import centers, mean_spread
from unclip_jax.evaluation.suite import Measure, Run
from unclip_jax.evaluation.suites.shapes.generation import generate_scenes, one_object
from unclip_jax.evaluation.suites.shapes.prompts import Prompt, draw_prompts, stream, texts
from unclip_jax.evaluation.suites.shapes.scenes import ATTRIBUTE_VALUES, attributes, colors, label
from unclip_jax.evaluation.table import Result, percent, value_table
from unclip_jax.evaluation.upsampling_quality import flat

DIVERSITY_PROMPTS, DIVERSITY_IMAGES = 16, 8
DATA_GROUPS = 32  # groups of DIVERSITY_IMAGES scenes per prompt, to estimate the spread of the dataset
UNNAMED_IMAGES, UNNAMED_SCENES = 64, 4096


def diversity(run: Run) -> dict[str, Any]:
    """Computes the spread of the images and of the dataset in pixels, and their ratio.

    The spread of the images and the ratio are None if no prompt has two readable images of one object.
    """
    prompts = draw_prompts("one_object", min(DIVERSITY_PROMPTS, run.num_prompts), run.seed)
    scenes = generate_scenes(run, [text for text in texts(prompts) for _ in range(DIVERSITY_IMAGES)])
    groups = [centers(scenes[start : start + DIVERSITY_IMAGES]) for start in range(0, len(scenes), DIVERSITY_IMAGES)]
    generated, data = mean_spread(groups), mean_spread(_data_groups(prompts, run.seed))
    return {
        "ratio": None if generated is None else generated / data,
        "spread": generated,
        "spread_of_data": data,
        "prompts": sum(len(group) >= 2 for group in groups),
        "pictures": sum(map(len, groups)),
    }


def sample_placements(item: Object, count: int, rng: np.random.Generator) -> list[Object]:
    """Samples objects like `item` with positions and extents as in the dataset.

    In the dataset, the position and the exact size of an object do not depend on its shape and color.

    Args:
      item: The object whose shape, color and size name are kept.
      count: Number of objects.
      rng: Random generator.
    """
    objects: list[Object] = []
    while len(objects) < count:
        other = sample_scene(rng, num_objects=1).objects[0]
        if other.size == item.size:
            objects.append(dataclasses.replace(other, shape=item.shape, colour=item.colour))
    return objects


def _data_groups(prompts: Sequence[Prompt], seed: int) -> list[list[tuple[float, float]]]:
    """Samples groups of centers with the size of generated groups, because the spread depends on it."""
    rng = stream("diversity of data", seed)
    return [
        [(item.x, item.y) for item in sample_placements(prompt.scene.objects[0], DIVERSITY_IMAGES, rng)]
        for prompt in prompts
        for _ in range(DATA_GROUPS)
    ]


def _diversity_text(result: Result) -> str:
    counts = f"({result['prompts']} prompts, {result['pictures']} readable images of one object)"
    if result["ratio"] is None:
        return f"not available {counts}"
    return f"{result['ratio']:.2f}: {result['spread']:.1f} px, dataset {result['spread_of_data']:.1f} px {counts}"


def _diversity_json(name: str, result: Result) -> dict[str, Any]:
    parts = {key: value for key, value in result.items() if key != "ratio"}
    return {name: result["ratio"], f"{name}_spread": parts}


def flatness(run: Run) -> dict[str, Any]:
    """Computes the mean fractions of flat pixels in readable images and in true images.

    See `upsampling_quality`. The colors are those of the scene that was read from the image. `share` is None if no
    image is readable.
    """
    generated = run.shared(one_object)
    true = [flat(draw(prompt.scene), colors(prompt.scene)) for prompt in generated.prompts]
    return {
        "share": float(np.mean(generated.flat_shares)) if generated.flat_shares else None,
        "share_of_true": float(np.mean(true)),
        "n": len(generated.flat_shares),
    }


def _flatness_text(result: Result) -> str:
    share = "no readable images" if result["share"] is None else f"{percent(result['share'])} of the pixels"
    return f"{share}, true images {percent(result['share_of_true'])} (n {result['n']})"


def unnamed(run: Run) -> dict[str, Any]:
    """Computes the fraction of each value of unnamed attributes, in images and in the dataset.

    `n` is the number of images that are read as one object. Only these images and scenes with one object count.
    """
    prompts = [f"a {SHAPES[index % len(SHAPES)]}" for index in range(UNNAMED_IMAGES)]
    scenes = [scene for scene in generate_scenes(run, prompts) if scene and len(scene.objects) == 1]
    rng = stream("unnamed, data", run.seed)
    data = [sample_scene(rng, num_objects=1) for _ in range(UNNAMED_SCENES)]
    return {"n": len(scenes), "shares": _value_shares(scenes), "shares_of_data": _value_shares(data)}


def _value_shares(scenes: Sequence[Scene]) -> dict[str, dict[str, float]]:
    """Computes the fraction of each color, size and background. All are 0 if there are no scenes."""
    found = [attributes(scene) for scene in scenes]
    return {
        attribute: {
            value: sum(values[attribute] == value for values in found) / max(len(found), 1)
            for value in ATTRIBUTE_VALUES[attribute]
        }
        for attribute in ("colour", "size", "background")
    }


def _unnamed_text(result: Result) -> str:
    shares = [_shares_text(name, shares, result["shares_of_data"][name]) for name, shares in result["shares"].items()]
    return f"{'; '.join(shares)} (n {result['n']}; dataset in parentheses)"


def _shares_text(attribute: str, shares: Mapping[str, float], data: Mapping[str, float]) -> str:
    values = (f"{value} {percent(share)} ({percent(data[value])})" for value, share in shares.items())
    return f"{label(attribute)} {', '.join(values)}"


MEASURES = (
    Measure(
        "diversity",
        diversity,
        value_table(_diversity_text),
        "spread of the object's position over images of the same prompt, divided by that of the dataset",
        to_json=_diversity_json,
    ),
    Measure(
        "flatness",
        flatness,
        value_table(_flatness_text),
        "fraction of one_object's pixels that are close to a color of the scene, compared with true images",
    ),
    Measure(
        "unnamed",
        unnamed,
        value_table(_unnamed_text),
        "colors, sizes and backgrounds of images whose prompts name only the shape, compared with the dataset",
    ),
)
