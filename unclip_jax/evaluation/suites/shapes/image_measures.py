"""Measures of generated images that need no caption: diversity, flatness and attributes that no prompt names."""

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
from unclip_jax.evaluation.suites.shapes.scenes import ATTRIBUTE_VALUES, attributes, colors
from unclip_jax.evaluation.table import Result, percent, value_table
from unclip_jax.evaluation.upsampling_quality import flat

DIVERSITY_PROMPTS, DIVERSITY_IMAGES = 16, 8
DATA_GROUPS = 32  # groups of DIVERSITY_IMAGES scenes per prompt, for the spread of the data
UNNAMED_IMAGES, UNNAMED_SCENES = 64, 4096


def diversity(run: Run) -> dict[str, Any]:
    """Returns spreads in pixels, and their ratio. It is None if no prompt has two readable images."""
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
    """Samples objects with the shape, color and size name of `item`, placed and scaled as in the data.

    In the data, the position of an object and its exact size do not depend on its shape and color.
    """
    objects: list[Object] = []
    while len(objects) < count:
        other = sample_scene(rng, num_objects=1).objects[0]
        if other.size == item.size:
            objects.append(dataclasses.replace(other, shape=item.shape, colour=item.colour))
    return objects


def _data_groups(prompts: Sequence[Prompt], seed: int) -> list[list[tuple[float, float]]]:
    """Returns centers in groups of the size of the generated ones, because the expected spread depends on the size."""
    rng = stream("diversity of data", seed)
    return [
        [(item.x, item.y) for item in sample_placements(prompt.scene.objects[0], DIVERSITY_IMAGES, rng)]
        for prompt in prompts
        for _ in range(DATA_GROUPS)
    ]


def _diversity_text(result: Result) -> str:
    counts = f"({result['prompts']} prompts, {result['pictures']} readable pictures of one object)"
    if result["ratio"] is None:
        return f"none could be measured {counts}"
    return f"{result['ratio']:.2f}: {result['spread']:.1f} px, data {result['spread_of_data']:.1f} px {counts}"


def _diversity_json(name: str, result: Result) -> dict[str, Any]:
    parts = {key: value for key, value in result.items() if key != "ratio"}
    return {name: result["ratio"], f"{name}_spread": parts}


def flatness(run: Run) -> dict[str, Any]:
    """Returns the mean shares of flat pixels (see `upsampling_quality`) of the readable images and of true images.

    The colors are those of the scene that was read from an image. `share` is None if no image is readable.
    """
    generated = run.shared(one_object)
    true = [flat(draw(prompt.scene), colors(prompt.scene)) for prompt in generated.prompts]
    return {
        "share": float(np.mean(generated.flat_shares)) if generated.flat_shares else None,
        "share_of_true": float(np.mean(true)),
        "n": len(generated.flat_shares),
    }


def _flatness_text(result: Result) -> str:
    share = "none could be read" if result["share"] is None else percent(result["share"])
    return f"{share} of the pixels, of true pictures {percent(result['share_of_true'])} (n {result['n']})"


def unnamed(run: Run) -> dict[str, Any]:
    """Returns the share of each value of the attributes that no prompt names, in the images and in the data.

    `n` is the number of images in which one object can be read. Only these and scenes with one object count.
    """
    prompts = [f"a {SHAPES[index % len(SHAPES)]}" for index in range(UNNAMED_IMAGES)]
    scenes = [scene for scene in generate_scenes(run, prompts) if scene and len(scene.objects) == 1]
    rng = stream("unnamed, data", run.seed)
    data = [sample_scene(rng, num_objects=1) for _ in range(UNNAMED_SCENES)]
    return {"n": len(scenes), "shares": _value_shares(scenes), "shares_of_data": _value_shares(data)}


def _value_shares(scenes: Sequence[Scene]) -> dict[str, dict[str, float]]:
    """Returns the share of each color, size and background. All are 0 if there are no scenes."""
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
    return f"{'; '.join(shares)} (n {result['n']}; in brackets the data)"


def _shares_text(attribute: str, shares: Mapping[str, float], data: Mapping[str, float]) -> str:
    values = (f"{value} {percent(share)} ({percent(data[value])})" for value, share in shares.items())
    return f"{attribute} {', '.join(values)}"


MEASURES = (
    Measure(
        "diversity",
        diversity,
        value_table(_diversity_text),
        "spread of the object's position over images of the same prompt, divided by that of the data",
        to_json=_diversity_json,
    ),
    Measure(
        "flatness",
        flatness,
        value_table(_flatness_text),
        "share of one_object's pixels that have exactly a color of the scene, next to true images",
    ),
    Measure(
        "unnamed",
        unnamed,
        value_table(_unnamed_text),
        "colors, sizes and backgrounds of images whose prompts name only the shape, next to the data",
    ),
)
