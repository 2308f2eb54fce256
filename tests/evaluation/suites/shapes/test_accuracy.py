"""The judge, on scenes and captions written by hand."""

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

SAYS_ONE = Caption("a small red circle on white", "white", (NamedObject("circle", "red", "small"),))
SAYS_TWO = Caption(
    "a small red circle left of a large blue star on white",
    "white",
    (NamedObject("circle", "red", "small"), NamedObject("star", "blue", "large")),
    "left of",
)
ALL_FOUR = {"shape", "colour", "size", "background"}


def wrong(seen, caption):
    """The attributes that are wrong."""
    return {name for name, right in judge(seen, caption).attributes.items() if not right}


def test_a_picture_with_all_that_is_named_is_right():
    assert judge(ONE, SAYS_ONE).correct
    assert judge(TWO, SAYS_TWO).correct
    assert set(judge(ONE, SAYS_ONE).attributes) == ALL_FOUR | {"number", "readable"}
    assert set(judge(TWO, SAYS_TWO).attributes) == ALL_FOUR | {"relation", "number", "readable"}


@pytest.mark.parametrize(
    ("attribute", "other"),
    [("shape", "ring"), ("colour", "green"), ("size", "large"), ("background", "black")],
)
def test_one_wrong_attribute_is_found_and_makes_the_picture_wrong(attribute, other):
    if attribute == "background":
        seen = dataclasses.replace(ONE, background=other)
    else:
        seen = Scene("white", (dataclasses.replace(RED_CIRCLE, **{attribute: other}),))
    assert wrong(seen, SAYS_ONE) == {attribute}
    assert not judge(seen, SAYS_ONE).correct


def test_what_a_caption_does_not_say_cannot_be_wrong():
    caption = Caption("red", None, (NamedObject(None, "red", None),))
    assert judge(dataclasses.replace(ONE, background="black"), caption).correct
    assert set(judge(ONE, caption).attributes) == {"colour", "number", "readable"}


def test_what_is_said_of_one_object_is_asked_of_that_object_alone():
    says_red_circle_and_star = Caption("", None, (NamedObject("circle", "red", None), NamedObject("star", None, None)))
    assert judge(TWO, says_red_circle_and_star).correct
    says_red_star = Caption("", None, (NamedObject("circle", None, None), NamedObject("star", "red", None)))
    assert wrong(TWO, says_red_star) == {"colour"}


def test_an_unreadable_picture_has_every_attribute_wrong():
    assert wrong(None, SAYS_TWO) == ALL_FOUR | {"relation", "number", "readable"}


@pytest.mark.parametrize(("seen", "caption"), [(TWO, SAYS_ONE), (ONE, SAYS_TWO)])
def test_another_number_of_objects_is_wrong_though_readable(seen, caption):
    verdict = judge(seen, caption)
    assert verdict.attributes["readable"]
    assert not verdict.correct
    assert not any(right for name, right in verdict.attributes.items() if name != "readable")


def test_two_objects_are_read_in_no_order():
    turned = Scene("white", (BLUE_STAR, RED_CIRCLE), "right of")
    assert judge(turned, SAYS_TWO).correct


def test_attributes_that_changed_places_are_wrong():
    # A red star right of a blue circle: no order makes both shapes and both colours right.
    mixed = Scene(
        "white",
        (dataclasses.replace(RED_CIRCLE, colour="blue"), dataclasses.replace(BLUE_STAR, colour="red")),
        "left of",
    )
    assert wrong(mixed, SAYS_TWO) == {"colour"}


def test_the_relation_is_that_of_the_named_objects():
    swapped = Scene(
        "white",
        (dataclasses.replace(RED_CIRCLE, x=180.0), dataclasses.replace(BLUE_STAR, x=60.0)),
        "right of",
    )
    assert wrong(swapped, SAYS_TWO) == {"relation"}
    beneath = Scene("white", (RED_CIRCLE, dataclasses.replace(BLUE_STAR, x=70.0, y=180.0)), "above")
    assert wrong(beneath, SAYS_TWO) == {"relation"}


def test_shares_are_over_the_captions_that_name_the_attribute():
    red = Caption("red", None, (NamedObject(None, "red", None),))
    accuracy = summarize([judge(ONE, SAYS_ONE), judge(ONE, red), judge(None, red), judge(TWO, SAYS_ONE)])
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


def test_no_verdicts_are_no_accuracy():
    with pytest.raises(ValueError, match="verdicts must not be empty"):
        summarize([])


def test_chance_is_the_mean_over_all_pairs_of_strangers():
    says_red_square = Caption("", "white", (NamedObject("square", "red", "small"),))
    red_square = Scene("white", (dataclasses.replace(RED_CIRCLE, shape="square"),))
    expected = chance([SAYS_ONE, SAYS_ONE, says_red_square], [ONE, ONE, red_square])
    # Six ordered pairs; the two of the equal circles are right, the four with the square miss the shape alone.
    assert expected.accuracy == pytest.approx(2 / 6)
    assert expected.attributes["shape"] == pytest.approx(2 / 6)
    assert expected.attributes["colour"] == 1.0


def test_pictures_are_judged_by_their_pixels():
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    one, two, unreadable = read_scenes(np.stack([draw(ONE), draw(TWO), noise]))
    assert judge(one, SAYS_ONE).correct and judge(two, SAYS_TWO).correct
    assert not judge(one, SAYS_TWO).correct and not judge(two, SAYS_ONE).correct
    assert unreadable is None
