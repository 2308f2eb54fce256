"""Prompts of the shapes suite: scenes and captions of each selection."""

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


@pytest.mark.parametrize("selection", SELECTIONS)
def test_prompts_are_true_and_name_everything_except_in_free_wordings(selection):
    for prompt in draw_prompts(selection, 60, seed=3):
        caption, scene = prompt.caption, prompt.scene
        values = [(caption.background, scene.background), (caption.relation, scene.relation)]
        for named, item in zip(caption.objects, scene.objects, strict=True):
            values += [(getattr(named, name), getattr(item, name)) for name in ("shape", "colour", "size")]
        assert all(named in (None, true) for named, true in values)
        assert caption.names_everything == (selection != "free_wording")


@pytest.mark.parametrize(
    ("selection", "objects", "held_out"),
    [
        ("one_object", {1}, False),
        ("two_objects", {2}, False),
        ("compositional", {1}, True),
        ("free_wording", {1}, False),
        ("any", {1, 2}, False),
    ],
)
def test_prompts_have_the_objects_and_pairs_of_their_selection(selection, objects, held_out):
    prompts = draw_prompts(selection, 120, seed=0)
    assert {len(prompt.scene.objects) for prompt in prompts} == objects
    all_pairs = set().union(*map(pairs, prompts))
    assert all_pairs <= HELD_OUT if held_out else not all_pairs & HELD_OUT
    if held_out:
        assert all_pairs == HELD_OUT


def test_free_wording_prompts_use_the_listed_wordings():
    known = {text.split("{")[0] for text, _ in FREE_WORDINGS}
    prompts = draw_prompts("free_wording", 200, seed=0)
    assert all(any(prompt.caption.text.startswith(start) for start in known) for prompt in prompts)
    named = [
        sum(value is not None for value in dataclasses.astuple(prompt.caption.objects[0]))
        + (prompt.caption.background is not None)
        for prompt in prompts
    ]
    assert set(named) == {1, 2, 3}


def test_larger_count_only_appends_prompts():
    assert draw_prompts("one_object", 12, seed=5) == draw_prompts("one_object", 30, seed=5)[:12]


def test_seeds_and_selections_have_different_scenes():
    lists = [draw_prompts(selection, 10, seed) for selection in ("one_object", "free_wording") for seed in (0, 1)]
    positions = [prompt.scene.objects[0].x for prompts in lists for prompt in prompts]
    assert len(set(positions)) == 40


def test_prompts_have_no_scenes_of_the_dataset():
    records = {make_record(split, index)["scene"] for split in SPLITS for index in range(5)}
    drawn = {prompt.scene.to_json() for selection in SELECTIONS for prompt in draw_prompts(selection, 5, seed=0)}
    drawn |= {prompt.scene.to_json() for selection in SELECTIONS for prompt in draw_prompts(selection, 5, seed=1)}
    assert not records & drawn


def test_distinct_prompts_differ_in_content():
    contents = [dataclasses.replace(p.caption, text="") for p in draw_prompts("any", 300, seed=0, distinct=True)]
    assert len(set(contents)) == 300
    # Without `distinct`, contents are repeated.
    assert len({dataclasses.replace(p.caption, text="") for p in draw_prompts("any", 300, seed=0)}) < 300


def test_sample_placements_matches_the_distribution_of_the_dataset():
    item = Object("ring", "red", "large", 100.0, 100.0, 50.0)
    others = sample_placements(item, 400, stream("test", 0))
    assert {(other.shape, other.colour, other.size) for other in others} == {("ring", "red", "large")}
    low, high = SIZES["large"]
    assert all(low <= other.half_extent <= high for other in others)
    rng = np.random.default_rng(1)
    scenes = (sample_scene(rng, num_objects=1).objects[0] for _ in range(3000))
    data = [other.x for other in scenes if other.size == "large"]
    # The std of 400 samples has a relative standard error of 1 / sqrt(800). The tolerance is three of them.
    assert np.std([other.x for other in others]) == pytest.approx(np.std(data), rel=3 / math.sqrt(800))
