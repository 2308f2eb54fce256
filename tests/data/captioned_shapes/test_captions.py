"""Captions: the words of a text against the attributes that the caption claims to name."""

import collections
import copy
import dataclasses
import re

import numpy as np
import pytest

from unclip_jax.data.captioned_shapes.captions import (
    LOOSE_SHARE,
    Caption,
    NamedObject,
    captions,
    free_caption,
    full_caption,
)
from unclip_jax.data.captioned_shapes.free_wordings import FREE_WORDINGS, is_free_wording
from unclip_jax.data.captioned_shapes.negative_captions import describes, negative_captions
from unclip_jax.data.captioned_shapes.scene import COLOURS, HELD_OUT, SHAPES, Object, Scene, recolour, sample_scene
from unclip_jax.data.captioned_shapes.wordings import CLAUSES, FILLERS, vocabulary


def words(text: str) -> list[str]:
    return re.findall(r"[a-z]+", text.lower())


RELATION_PARTS = words("a an to the left right of above over below under on at top bottom")
SIZE_OF_WORD = {"small": "small", "little": "small", "large": "large", "big": "large"}
ONE = Scene("green", (Object("star", "orange", "small", 60.0, 70.0, 30.0),))
TWO = Scene(
    "white",
    (Object("star", "orange", "small", 60.0, 128.0, 30.0), Object("ring", "blue", "large", 180.0, 128.0, 50.0)),
    "left of",
)


@pytest.fixture(scope="module")
def pairs() -> list[tuple[Scene, Caption]]:
    rng = np.random.default_rng(0)
    return [(scene, c) for scene in (sample_scene(rng) for _ in range(3000)) for c in captions(scene, rng, 3)]


def test_caption_text_contains_exactly_the_named_attributes(pairs):
    for scene, caption in pairs:
        text_words = words(caption.text)
        colors = [value for value in (caption.background, *(item.colour for item in caption.objects)) if value]
        assert sorted(word for word in text_words if word in COLOURS) == sorted(colors), caption
        named_shapes = sorted(item.shape for item in caption.objects if item.shape)
        assert sorted(word for word in text_words if word in SHAPES) == named_shapes, caption
        sizes = sorted(item.size for item in caption.objects if item.size)
        assert sorted(SIZE_OF_WORD[word] for word in text_words if word in SIZE_OF_WORD) == sizes, caption
        for item, truth in zip(caption.objects, scene.objects, strict=True):
            assert item.shape in (None, truth.shape)
            assert item.colour in (None, truth.colour)
            assert item.size in (None, truth.size)
            assert item.shape or item.colour
        assert caption.background in (None, scene.background)
        assert caption.relation in (None, scene.relation)


def test_relation_wordings_are_true_of_the_scene():
    """In the scene, the star is left of the ring."""
    rng = np.random.default_rng(0)
    cores = set()
    for _ in range(400):
        text = full_caption(TWO, rng).text
        star, ring = text.index("star"), text.index("ring")
        if "on the left" in text:
            left, right = text.index("on the left"), text.index("on the right")
            assert (star < left) and (ring < right) and ((star < ring) == (left < right)), text
            cores.add("sides")
        elif "left of" in text:
            assert star < text.index("left of") < ring, text
            cores.add("left")
        else:
            assert ring < text.index("right of") < star, text
            cores.add("right")
    assert cores == {"sides", "left", "right"}


def test_phrases_of_two_objects_keep_their_own_color_and_size(pairs):
    for scene, caption in pairs:
        if len(scene.objects) == 1 or not caption.names_everything or "that is" in caption.text:
            continue
        for item in scene.objects:
            size = {"small": "(small|little)", "large": "(large|big)"}[item.size]
            phrase = rf"({size} {item.colour}|{item.colour} {size}) {item.shape}\b"
            assert re.search(phrase, caption.text), caption.text


def test_documented_fraction_of_captions_names_everything(pairs):
    share = np.mean([caption.names_everything for _, caption in pairs])
    assert 0.42 < share < 0.48
    for count in (1, 2):
        of_count = [caption.names_everything for scene, caption in pairs if len(scene.objects) == count]
        assert 0.40 < np.mean(of_count) < 0.49
    shape_named = np.mean([item.shape is not None for _, caption in pairs for item in caption.objects])
    assert 0.96 < shape_named < 0.999


def test_names_everything_counts_each_attribute():
    rng = np.random.default_rng(0)
    for scene, count in ((ONE, 4), (TWO, 8)):  # star orange small green; star orange small ring blue large white left
        full = full_caption(scene, rng)
        assert full.names_everything
        attribute_words = [w for w in words(full.text) if w in COLOURS or w in SHAPES or w in SIZE_OF_WORD]
        assert len(attribute_words) + (full.relation is not None) == count
        assert not dataclasses.replace(full, background=None).names_everything
    assert not dataclasses.replace(full, relation=None).names_everything
    partial = [caption for caption in captions(ONE, rng, 200) if not caption.names_everything]
    assert partial and all(
        None in (c.background, c.objects[0].shape, c.objects[0].colour, c.objects[0].size) for c in partial
    )


def test_captions_have_correct_articles_and_spaces(pairs):
    for _, caption in pairs:
        assert not re.search(r"\ba orange\b|\ban (?!orange|image)", caption.text), caption.text
        assert "  " not in caption.text and caption.text == caption.text.strip()


def test_full_captions_have_many_wordings():
    rng = np.random.default_rng(0)
    assert len({full_caption(ONE, rng).text for _ in range(400)}) > 60
    assert len({full_caption(TWO, rng).text for _ in range(400)}) > 150


def test_vocabulary_matches_training_captions():
    rng = np.random.default_rng(0)
    texts = [caption.text for _ in range(4000) for caption in captions(sample_scene(rng), rng, 3)]
    used = {word for text in texts for word in words(text)}
    assert used == vocabulary()


def test_captions_are_deterministic_given_the_generator():
    first, second = (captions(TWO, np.random.default_rng(4), 5) for _ in range(2))
    assert first == second != captions(TWO, np.random.default_rng(5), 5)


def test_free_captions_name_the_documented_attributes():
    rng = np.random.default_rng(0)
    for _ in range(600):
        scene = sample_scene(rng, num_objects=1)
        caption = free_caption(scene, rng)
        item, (truth,) = caption.objects[0], scene.objects
        text_words = words(caption.text)
        assert 1 <= sum(value is not None for value in (item.shape, item.colour, item.size, caption.background)) <= 3
        for value, true in ((item.shape, truth.shape), (item.colour, truth.colour), (item.size, truth.size)):
            assert value in (None, true)
            assert (true in text_words) == (value is not None), caption
        assert (scene.background in text_words) == (caption.background is not None), caption
    with pytest.raises(ValueError, match="scene must have one object for a free wording, got 2"):
        free_caption(TWO, rng)


def test_no_training_caption_is_a_free_wording():
    rng = np.random.default_rng(0)
    item = ONE.objects[0]
    values = {"shape": item.shape, "colour": item.colour, "size": item.size, "background": ONE.background}
    forms = {form(k): form(v) for k, v in values.items() for form in (str.lower, str.capitalize, str.upper)}
    free = {wording.format(**forms) for wording, _ in FREE_WORDINGS}
    trained = {caption.text for caption in captions(ONE, rng, 60_000)}
    assert len(free) == len(FREE_WORDINGS) >= 20
    assert not free & trained
    assert all(map(is_free_wording, free))
    # Ignoring case, "small orange star" is the only free wording that also occurs in training.
    shared = {"small orange star", "little orange star"}
    assert {text for text in trained if is_free_wording(text)} <= shared


def test_is_free_wording_accepts_any_attribute_values():
    assert is_free_wording("Big, yellow: a cross") and is_free_wording("ring (white)")
    assert not is_free_wording("a ring (white)") and not is_free_wording("small, seven: a cross")


def is_loose(caption: Caption) -> bool:
    """Returns whether a caption contains a filler that occurs only in loose captions, as three quarters of them do."""
    return bool((set(FILLERS) - {"with", "that", "and", "this"}) & set(words(caption.text)))


def test_only_captions_of_one_object_are_loose(pairs):
    share = np.mean([is_loose(caption) for scene, caption in pairs if len(scene.objects) == 1])
    assert 0.69 * LOOSE_SHARE < share < 0.75 * LOOSE_SHARE
    assert not any(is_loose(caption) for scene, caption in pairs if len(scene.objects) == 2)
    assert not any(is_loose(full_caption(scene, np.random.default_rng(n))) for n, (scene, _) in enumerate(pairs[:300]))


def test_loose_captions_separate_the_background_by_punctuation(pairs):
    loose = [caption for _, caption in pairs if is_loose(caption) and caption.background]
    assert len(loose) > 300
    for caption in loose:
        clauses = "|".join(re.escape(clause.format(caption.background)) for clause in CLAUSES["background"])
        # Punctuation on both sides, because "on purple circle" would name a purple circle.
        assert re.search(rf"(^|[.,;:/!-] )({clauses})($|[.,;:!?]| [/-])", caption.text), caption.text


STAR, RING = NamedObject("star", "orange", "small"), NamedObject("ring", "blue", "large")


@pytest.mark.parametrize(
    ("caption", "true"),
    [
        (Caption("", "white", (STAR, RING), "left of"), True),
        (Caption("", None, (RING, STAR), "right of"), True),  # starts from the other object
        (Caption("", None, (NamedObject("ring", None, None), NamedObject(None, "orange", None)), None), True),
        (Caption("", "black", (STAR, RING), "left of"), False),
        (Caption("", None, (RING, STAR), "left of"), False),
        (Caption("", None, (STAR, RING), "right of"), False),
        (Caption("", None, (STAR, RING), "above"), False),
        (Caption("", None, (NamedObject("star", "blue", None), NamedObject("ring", "orange", None)), None), False),
        (Caption("", None, (NamedObject("star", None, "large"), NamedObject("ring", None, None)), None), False),
        (Caption("", "white", (STAR,), None), False),
    ],
)
def test_describes_compares_caption_and_scene(caption, true):
    """TWO is a small orange star left of a large blue ring on white."""
    assert describes(caption, TWO) == true


def test_negative_captions_differ_in_one_false_statement():
    """All kinds of changes occur. For full captions of two objects, half change the relation and a third swap objects.

    Swaps of equal shapes or colors, and changes to held-out pairs, are sampled again.
    """
    rng, change = np.random.default_rng(5), np.random.default_rng(6)
    kinds = collections.Counter()
    for _ in range(2000):
        scene = sample_scene(rng)
        negatives = negative_captions(scene, copy.deepcopy(rng), 3, change=change)
        for caption, other in zip(captions(scene, rng, 3), negatives, strict=True):
            assert describes(caption, scene) and not describes(other, scene), (caption, other)
            assert not {(item.shape, item.colour) for item in other.objects} & HELD_OUT
            assert frame(caption.text) == frame(other.text)
            if len(scene.objects) == 2 and caption.names_everything:
                kinds[kind_of_change(caption, other)] += 1
    share = {kind: count / kinds.total() for kind, count in kinds.items()}
    assert set(share) == {"relation", "swap", "shape", "colour", "size", "background"}
    assert 0.45 < share["relation"] < 0.6 and 0.25 < share["swap"] < 0.4


def frame(text: str) -> list[str]:
    """Returns the words that express neither an attribute nor a relation."""
    return [word for word in words(text) if word not in (*COLOURS, *SHAPES, *SIZE_OF_WORD, *RELATION_PARTS)]


def kind_of_change(caption: Caption, other: Caption) -> str:
    different = {
        name
        for one, two in zip(caption.objects, other.objects, strict=True)
        for name in ("shape", "colour", "size")
        if getattr(one, name) != getattr(two, name)
    }
    different |= {name for name in ("background", "relation") if getattr(caption, name) != getattr(other, name)}
    (name,) = different
    if name in ("background", "relation"):
        return name
    before, after = ([getattr(item, name) for item in each.objects] for each in (caption, other))
    return "swap" if before == after[::-1] else name


def test_captions_omit_colors_without_a_name():
    rng = np.random.default_rng(7)
    for _ in range(200):
        scene = recolour(sample_scene(rng), rng)
        for caption in (*captions(scene, rng, 3), *negative_captions(scene, rng, 3, change=rng)):
            assert not set(words(caption.text)) & set(COLOURS) and "#" not in caption.text
            assert caption.background is None and all(item.colour is None for item in caption.objects)
