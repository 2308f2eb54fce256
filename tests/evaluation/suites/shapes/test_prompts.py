"""What the suite asks for: the scenes and wordings of each row."""

import dataclasses
import math

import numpy as np
import pytest

from unclip_jax.data.captioned_shapes.dataset_sizes import SPLITS
from unclip_jax.data.captioned_shapes.free_wordings import FREE_WORDINGS
from unclip_jax.data.captioned_shapes.generation import make_record
from unclip_jax.data.captioned_shapes.scene import HELD_OUT, SIZES, Object, sample_scene
from unclip_jax.evaluation.suites.shapes.image_measures import sample_placements
from unclip_jax.evaluation.suites.shapes.prompts import SELECTIONS, draw_prompts, stream


def pairs(prompt):
    return {(item.shape, item.colour) for item in prompt.scene.objects}


@pytest.mark.parametrize("kind", SELECTIONS)
def test_every_caption_is_true_of_its_scene_and_names_everything_but_in_free_wordings(kind):
    for prompt in draw_prompts(kind, 60, seed=3):
        caption, scene = prompt.caption, prompt.scene
        said = [(caption.background, scene.background), (caption.relation, scene.relation)]
        for named, item in zip(caption.objects, scene.objects, strict=True):
            said += [(getattr(named, name), getattr(item, name)) for name in ("shape", "colour", "size")]
        assert all(word in (None, truth) for word, truth in said)
        assert caption.names_everything == (kind != "free_wording")


@pytest.mark.parametrize(
    ("kind", "objects", "held_out"),
    [
        ("one_object", {1}, False),
        ("two_objects", {2}, False),
        ("compositional", {1}, True),
        ("free_wording", {1}, False),
        ("any", {1, 2}, False),
    ],
)
def test_objects_and_pairs_are_those_of_the_row(kind, objects, held_out):
    prompts = draw_prompts(kind, 120, seed=0)
    assert {len(prompt.scene.objects) for prompt in prompts} == objects
    seen = set().union(*map(pairs, prompts))
    assert seen <= HELD_OUT if held_out else not seen & HELD_OUT
    if held_out:
        assert seen == HELD_OUT


def test_free_wordings_are_the_hand_written_ones():
    known = {text.split("{")[0] for text, _ in FREE_WORDINGS}
    prompts = draw_prompts("free_wording", 200, seed=0)
    assert all(any(prompt.caption.text.startswith(start) for start in known) for prompt in prompts)
    named = [
        sum(value is not None for value in dataclasses.astuple(prompt.caption.objects[0]))
        + (prompt.caption.background is not None)
        for prompt in prompts
    ]
    assert set(named) == {1, 2, 3}


def test_a_seed_always_draws_the_same_and_a_longer_list_begins_with_the_shorter():
    assert draw_prompts("one_object", 12, seed=5) == draw_prompts("one_object", 30, seed=5)[:12]


def test_seeds_and_kinds_draw_different_scenes():
    lists = [draw_prompts(kind, 10, seed) for kind in ("one_object", "free_wording") for seed in (0, 1)]
    positions = [prompt.scene.objects[0].x for prompts in lists for prompt in prompts]
    assert len(set(positions)) == 40


def test_no_scene_of_the_suite_is_a_record_of_the_data_set():
    records = {make_record(split, index)["scene"] for split in SPLITS for index in range(5)}
    drawn = {prompt.scene.to_json() for kind in SELECTIONS for prompt in draw_prompts(kind, 5, seed=0)}
    drawn |= {prompt.scene.to_json() for kind in SELECTIONS for prompt in draw_prompts(kind, 5, seed=1)}
    assert not records & drawn


def test_distinct_captions_say_different_things():
    contents = [dataclasses.replace(p.caption, text="") for p in draw_prompts("any", 300, seed=0, distinct=True)]
    assert len(set(contents)) == 300
    # Without the demand 300 of them do repeat, so the demand does something.
    assert len({dataclasses.replace(p.caption, text="") for p in draw_prompts("any", 300, seed=0)}) < 300


def test_likewise_placed_objects_lie_as_objects_of_that_size_do_in_the_data():
    item = Object("ring", "red", "large", 100.0, 100.0, 50.0)
    others = sample_placements(item, 400, stream("test", 0))
    assert {(other.shape, other.colour, other.size) for other in others} == {("ring", "red", "large")}
    low, high = SIZES["large"]
    assert all(low <= other.half_extent <= high for other in others)
    rng = np.random.default_rng(1)
    scenes = (sample_scene(rng, num_objects=1).objects[0] for _ in range(3000))
    data = [other.x for other in scenes if other.size == "large"]
    # A deviation from 400 samples has a relative error of 1 / sqrt(800); three of them.
    assert np.std([other.x for other in others]) == pytest.approx(np.std(data), rel=3 / math.sqrt(800))
