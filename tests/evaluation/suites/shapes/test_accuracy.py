"""Accuracy of hand-written scenes and captions."""

import dataclasses

import numpy as np
import pytest

from unclip_jax.data.captioned_shapes.captions import Caption, NamedObject
from unclip_jax.data.captioned_shapes.drawing import draw
from unclip_jax.data.captioned_shapes.scene import Object, Scene
from unclip_jax.evaluation.suites.shapes.accuracy import chance, judge, read_scenes, summarize

RED_CIRCLE = Object("circle", "red", "small", 60.0, 60.0, 32.0)
BLUE_STAR = Object("star", "blue", "large", 180.0, 70.0, 48.0)
ONE = Scene("white", (RED_CIRCLE,))
TWO = Scene("white", (RED_CIRCLE, BLUE_STAR), "left of")

ONE_CAPTION = Caption("a small red circle on white", "white", (NamedObject("circle", "red", "small"),))
TWO_CAPTION = Caption(
    "a small red circle left of a large blue star on white",
    "white",
    (NamedObject("circle", "red", "small"), NamedObject("star", "blue", "large")),
    "left of",
)
ALL_FOUR = {"shape", "colour", "size", "background"}


def incorrect(scene, caption):
    """Returns the incorrect attributes."""
    return {name for name, correct in judge(scene, caption).attributes.items() if not correct}


def test_judge_accepts_matching_images():
    assert judge(ONE, ONE_CAPTION).correct
    assert judge(TWO, TWO_CAPTION).correct
    assert set(judge(ONE, ONE_CAPTION).attributes) == ALL_FOUR | {"number", "readable"}
    assert set(judge(TWO, TWO_CAPTION).attributes) == ALL_FOUR | {"relation", "number", "readable"}


@pytest.mark.parametrize(
    ("attribute", "other"),
    [("shape", "ring"), ("colour", "green"), ("size", "large"), ("background", "black")],
)
def test_judge_finds_the_incorrect_attribute(attribute, other):
    if attribute == "background":
        scene = dataclasses.replace(ONE, background=other)
    else:
        scene = Scene("white", (dataclasses.replace(RED_CIRCLE, **{attribute: other}),))
    assert incorrect(scene, ONE_CAPTION) == {attribute}
    assert not judge(scene, ONE_CAPTION).correct


def test_judge_ignores_attributes_that_are_not_named():
    caption = Caption("red", None, (NamedObject(None, "red", None),))
    assert judge(dataclasses.replace(ONE, background="black"), caption).correct
    assert set(judge(ONE, caption).attributes) == {"colour", "number", "readable"}


def test_judge_compares_attributes_per_object():
    red_circle_and_star = Caption("", None, (NamedObject("circle", "red", None), NamedObject("star", None, None)))
    assert judge(TWO, red_circle_and_star).correct
    red_star = Caption("", None, (NamedObject("circle", None, None), NamedObject("star", "red", None)))
    assert incorrect(TWO, red_star) == {"colour"}


def test_judge_counts_all_attributes_of_unreadable_images_as_incorrect():
    assert incorrect(None, TWO_CAPTION) == ALL_FOUR | {"relation", "number", "readable"}


@pytest.mark.parametrize(("scene", "caption"), [(TWO, ONE_CAPTION), (ONE, TWO_CAPTION)])
def test_judge_rejects_different_number_of_objects(scene, caption):
    verdict = judge(scene, caption)
    assert verdict.attributes["readable"]
    assert not verdict.correct
    assert not any(correct for name, correct in verdict.attributes.items() if name != "readable")


def test_judge_accepts_objects_in_either_order():
    swapped = Scene("white", (BLUE_STAR, RED_CIRCLE), "right of")
    assert judge(swapped, TWO_CAPTION).correct


def test_judge_rejects_swapped_colors():
    # A red star right of a blue circle: in no order are both shapes and both colors correct.
    mixed = Scene(
        "white",
        (dataclasses.replace(RED_CIRCLE, colour="blue"), dataclasses.replace(BLUE_STAR, colour="red")),
        "left of",
    )
    assert incorrect(mixed, TWO_CAPTION) == {"colour"}


def test_judge_compares_the_relation_of_the_named_objects():
    swapped = Scene(
        "white",
        (dataclasses.replace(RED_CIRCLE, x=180.0), dataclasses.replace(BLUE_STAR, x=60.0)),
        "right of",
    )
    assert incorrect(swapped, TWO_CAPTION) == {"relation"}
    below = Scene("white", (RED_CIRCLE, dataclasses.replace(BLUE_STAR, x=70.0, y=180.0)), "above")
    assert incorrect(below, TWO_CAPTION) == {"relation"}


def test_summarize_averages_over_captions_that_name_the_attribute():
    red = Caption("red", None, (NamedObject(None, "red", None),))
    accuracy = summarize([judge(ONE, ONE_CAPTION), judge(ONE, red), judge(None, red), judge(TWO, ONE_CAPTION)])
    assert accuracy.accuracy == 0.5
    assert accuracy.n == 4
    assert accuracy.attributes == {
        "shape": 0.5,  # of the two captions that name one
        "colour": 0.5,
        "size": 0.5,
        "background": 0.5,
        "number": 0.5,
        "readable": 0.75,
    }
    assert accuracy.interval == pytest.approx((0.1500, 0.8500), abs=1e-4)  # Wilson, 2 of 4


def test_summarize_rejects_empty_verdicts():
    with pytest.raises(ValueError, match="verdicts must not be empty"):
        summarize([])


def test_chance_averages_over_all_pairs_of_different_images():
    red_square_caption = Caption("", "white", (NamedObject("square", "red", "small"),))
    red_square = Scene("white", (dataclasses.replace(RED_CIRCLE, shape="square"),))
    expected = chance([ONE_CAPTION, ONE_CAPTION, red_square_caption], [ONE, ONE, red_square])
    # Of six ordered pairs, the two of the identical circles are correct. In the other four only the shape is incorrect.
    assert expected.accuracy == pytest.approx(2 / 6)
    assert expected.attributes["shape"] == pytest.approx(2 / 6)
    assert expected.attributes["colour"] == 1.0


def test_read_scenes_reads_pixels():
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    one, two, unreadable = read_scenes(np.stack([draw(ONE), draw(TWO), noise]))
    assert judge(one, ONE_CAPTION).correct and judge(two, TWO_CAPTION).correct
    assert not judge(one, TWO_CAPTION).correct and not judge(two, ONE_CAPTION).correct
    assert unreadable is None
