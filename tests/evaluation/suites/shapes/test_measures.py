"""The shapes suite on models whose results are known: one that renders every prompt perfectly, and ones that do not."""

import dataclasses
import json

import numpy as np
import pytest

from unclip_jax import images
from unclip_jax.data.captioned_shapes.drawing import draw, thumbnail
from unclip_jax.data.captioned_shapes.scene import SHAPES, SIZES, Object, Scene, sample_scene
from unclip_jax.evaluation.model_under_test import ModelUnderTest
from unclip_jax.evaluation.suite import run_measures
from unclip_jax.evaluation.suites.shapes import (
    SUITE,
    accuracy_measures,
    upsampler_measures,
)
from unclip_jax.evaluation.suites.shapes.accuracy import read_scenes
from unclip_jax.evaluation.suites.shapes.prompts import SELECTIONS, draw_prompts, stream
from unclip_jax.evaluation.suites.shapes.scenes import ATTRIBUTE_VALUES, upsampler_input

SEED, PROMPTS = 5, 20
ROWS = tuple(measure.name for measure in SUITE.measures)
PICTURE_ROWS = ("one_object", "two_objects", "compositional", "embedding_only", "true_embedding", "free_wording")
ENLARGED_ROWS = ("from_16px", "from_64px")


def embed(pictures):
    """Pixels as an embedding, in which equal pictures alone are the nearest."""
    small = np.asarray(pictures, np.float64)[:, ::8, ::8].reshape(len(pictures), -1)
    return small - small.mean(axis=1, keepdims=True) + 1.0


def one_of(shape, rng):
    """A scene of one object of that shape."""
    while True:
        scene = sample_scene(rng, num_objects=1)
        if scene.objects[0].shape == shape:
            return scene


def in_the_middle(caption):
    """The scene of a caption of `the suite's `clip_attributes``."""
    _, size, colour, shape, _, _, background, _ = caption.split()
    extent = sum(SIZES[size]) / 2
    return Scene(background, (Object(shape, colour, size, 128.0, 128.0, extent),))


class Perfect:
    """Knows the scene of every prompt that the suite can ask for, and paints it. Every call is noted in `calls`."""

    def __init__(self, seed=SEED, count=PROMPTS):
        drawn = [draw_prompts(selection, count, seed) for selection in SELECTIONS]
        drawn.append(draw_prompts("any", count, seed, distinct=True))
        self.scenes = {prompt.caption.text: prompt.scene for prompts in drawn for prompt in prompts}
        rng = np.random.default_rng(1)
        self.unnamed = {f"a {shape}": one_of(shape, rng) for shape in SHAPES}
        self.scenes |= self.unnamed
        self.places = np.random.default_rng(0)
        self.true = {}
        for row, size in upsampler_measures.SIZES.items():
            rng = stream(row, seed)
            for picture in (draw(sample_scene(rng)) for _ in range(count)):
                picture = picture if size == 256 else thumbnail(picture)
                self.true[upsampler_input(picture).tobytes()] = picture
        for prompt in draw_prompts("one_object", count, seed):
            picture = draw(prompt.scene)
            small = thumbnail(picture)
            self.true[upsampler_input(small).tobytes()] = small
            for low_res in (upsampler_input(picture), images.to_unit(small)):
                self.true[low_res.tobytes()] = picture
        self.calls = []

    def generate_images(self, prompts, *, seed, first_image, image_embeddings=None, empty_caption=False):
        given = None if image_embeddings is None else len(image_embeddings)
        self.calls.append((len(prompts), seed, first_image, given, empty_caption))
        if image_embeddings is not None:  # what is painted hangs on the embeddings alone
            pictures = np.stack([draw(scene) for scene in self.scenes.values()])
            known = embed(pictures)
            nearest = [np.linalg.norm(known - z, axis=1).argmin() for z in image_embeddings]
            return pictures[nearest]
        return np.stack([draw(self.elsewhere(self.scenes[prompt])) for prompt in prompts])

    def elsewhere(self, scene):
        """One object is painted at a place of its own each time."""
        if len(scene.objects) > 1:
            return scene
        item = scene.objects[0]
        x, y = self.places.uniform(80, 176, 2)
        return dataclasses.replace(scene, objects=(dataclasses.replace(item, x=x, y=y),))

    def encode_text(self, prompts):
        return embed([draw(self.scenes.get(prompt) or in_the_middle(prompt)) for prompt in prompts])

    def sample_prior(self, prompts, *, seed, first_image):
        return 3.0 * self.encode_text(prompts)

    def upsample(self, low_res, *, size, seed, first_image):
        return np.stack([self.true[small.tobytes()] for small in low_res])

    def model(self):
        return ModelUnderTest(self.generate_images, embed, self.encode_text, self.sample_prior, self.upsample)


@pytest.fixture(scope="module", autouse=True)
def few_true_renders():
    patch = pytest.MonkeyPatch()
    patch.setattr(accuracy_measures, "READER_SCENES", 40)
    yield
    patch.undo()


@pytest.fixture(scope="module")
def perfect():
    generator = Perfect()
    calls, generator.generated_for = [], set()

    def generate_images(*args, **settings):
        generator.generated_for.add(calls[-1][0])
        return generator.generate_images(*args, **settings)

    model = dataclasses.replace(generator.model(), generate_images=generate_images)
    results = run_measures(
        SUITE.measures, model, seed=SEED, num_prompts=PROMPTS, progress=lambda *call: calls.append(call)
    )
    return generator, {measure.name: result for measure, result in results}, calls


def run(model, *rows, prompts=PROMPTS, seed=SEED):
    results = run_measures(SUITE.select(rows), model, seed=seed, num_prompts=prompts)
    return {measure.name: result for measure, result in results}


def test_a_perfect_generator_is_right_in_every_row(perfect):
    _, results, _ = perfect
    assert tuple(results) == ROWS
    for row in (*PICTURE_ROWS, *ENLARGED_ROWS, "reader"):
        assert results[row]["accuracy"] == 1.0, row
        assert set(results[row]["attributes"].values()) == {1.0}
        assert results[row]["n"] == (40 if row == "reader" else PROMPTS)
        assert results[row]["interval"][1] == 1.0
        assert 0.8 < results[row]["interval"][0] < 1.0
    assert "relation" in results["two_objects"]["attributes"]
    assert "relation" not in results["one_object"]["attributes"]
    for row in upsampler_measures.SIZES:
        assert results[row]["psnr_gain"] > 10.0
        assert results[row]["flat"] == results[row]["flat_true"] > results[row]["flat_bicubic"]
        assert results[row]["gap_closed"] == 1.0
    assert results["clip_retrieval"] == {"n": PROMPTS, "text_to_image": 1.0, "image_to_text": 1.0}
    assert results["prior_cosine"]["cosine"] == pytest.approx(1.0)
    assert results["prior_cosine"]["cosine_shuffled"] < 0.5


def test_enlarged_true_pictures_pass_through_the_upsamplers_that_follow():
    """The second upsampler makes grey of everything, and the first is asked by one row alone, for the same pictures."""
    perfect, asked = Perfect(), []

    def upsample(low_res, *, size, seed, first_image):
        asked.append((low_res.shape[1], size, len(low_res), seed, first_image))
        pictures = perfect.upsample(low_res, size=size, seed=seed, first_image=first_image)
        return pictures if size == 64 else np.full_like(pictures, 128)

    results = run(dataclasses.replace(perfect.model(), upsample=upsample), *ENLARGED_ROWS)
    assert [results[row]["accuracy"] for row in ENLARGED_ROWS] == [0.0, 0.0]
    assert asked == [(16, 64, PROMPTS, SEED, 0), (64, 256, PROMPTS, SEED, 0), (64, 256, PROMPTS, SEED, 0)]


def test_flatness_is_the_share_of_pixels_near_a_colour_of_the_scene():
    """A third of every picture is one level farther from all colours than counts as flat, a third just near enough."""

    def tinted(prompts, **settings):
        pictures = Perfect().generate_images(prompts, **settings)
        tint = np.where(pictures > 127, -1, 1) * np.array([9, 8, 0]).repeat([85, 85, 86])[:, None]
        return (pictures + tint).astype(np.uint8)

    model = Perfect().model()
    made = run(dataclasses.replace(model, generate_images=tinted), "flatness")["flatness"]
    untouched = run(model, "flatness")["flatness"]
    assert untouched["n"] == made["n"] == PROMPTS
    assert untouched["share"] == pytest.approx(untouched["share_of_true"], abs=2e-3)
    assert made["share_of_true"] == untouched["share_of_true"]
    assert 0.985 < made["share_of_true"] < 1.0
    assert made["share"] == pytest.approx(made["share_of_true"] * 171 / 256, abs=0.01)


def test_flatness_looks_at_readable_pictures_alone():
    def noise(prompts, **settings):
        return np.random.default_rng(0).integers(0, 256, (len(prompts), 256, 256, 3), np.uint8)

    result = run(dataclasses.replace(Perfect().model(), generate_images=noise), "flatness")["flatness"]
    assert result["share"] is None and result["n"] == 0


def test_unnamed_counts_what_the_prompt_left_open(perfect):
    generator, results, _ = perfect
    result = results["unnamed"]
    assert result["n"] == 64
    # Six prompts in turn: of 64 pictures the first four shapes have eleven and the others ten.
    wanted = {"colour": {}, "size": {}, "background": {}}
    for place, scene in enumerate(generator.unnamed.values()):
        share = (11 if place < 4 else 10) / 64
        item = scene.objects[0]
        for name, value in (("colour", item.colour), ("size", item.size), ("background", scene.background)):
            wanted[name][value] = wanted[name].get(value, 0.0) + share
    for name, shares in result["shares"].items():
        assert {value: share for value, share in shares.items() if share} == pytest.approx(wanted[name]), name
        assert sum(result["shares_of_data"][name].values()) == pytest.approx(1.0)
    # Both sizes are as frequent, and so, to within 3.5 deviations of 4,096 draws, is each of the eight colours.
    assert result["shares_of_data"]["size"]["small"] == pytest.approx(0.5, abs=0.03)
    for share in result["shares_of_data"]["background"].values():
        assert share == pytest.approx(1 / 8, abs=0.02)


def knows(*attributes):
    """A CLIP whose embeddings hold these attributes of a scene, one dimension a value, and nothing else."""

    def encode(scenes):
        said = [{**dataclasses.asdict(scene.objects[0]), "background": scene.background} for scene in scenes]
        known = [(name, value) for name in attributes for value in ATTRIBUTE_VALUES[name]]
        return np.array([[float(row[name] == value) for name, value in known] for row in said])

    return dataclasses.replace(
        Perfect().model(),
        encode_image=lambda pictures: encode(read_scenes(pictures)),
        encode_text=lambda texts: encode(map(in_the_middle, texts)),
    )


def test_clip_attributes_are_those_that_its_embeddings_hold():
    everything = run(knows("shape", "colour", "size", "background"), "clip_attributes")["clip_attributes"]
    assert everything == {"n": PROMPTS, "attributes": dict.fromkeys(("shape", "colour", "size", "background"), 1.0)}
    some = run(knows("colour", "size"), "clip_attributes")["clip_attributes"]
    assert some["attributes"] == {"shape": 0.0, "colour": 1.0, "size": 1.0, "background": 0.0}


def test_unnamed_leaves_out_pictures_of_two_objects():
    two = sample_scene(np.random.default_rng(2), num_objects=2)
    generator = Perfect()
    generator.scenes["a circle"] = two
    assert run(generator.model(), "unnamed")["unnamed"]["n"] == 64 - 11


def test_the_results_are_plain_json(perfect):
    _, results, _ = perfect
    for result in results.values():
        text = json.dumps(result, allow_nan=False)
        assert json.loads(text).keys() == result.keys()


def test_shuffled_captions_are_right_where_they_say_the_same_and_nowhere_else(perfect):
    _, results, _ = perfect
    # Twenty one-object captions of this seed are all different, and no caption meets its own picture.
    assert len({dataclasses.replace(p.caption, text="") for p in draw_prompts("one_object", PROMPTS, SEED)}) == PROMPTS
    shuffled = results["shuffled"]
    assert shuffled["accuracy"] == shuffled["chance"]["accuracy"] == 0.0
    assert shuffled["attributes"]["readable"] == 1.0


def test_shuffled_is_at_chance_in_every_attribute():
    generator = Perfect(count=120)
    shuffled = run(generator.model(), "shuffled", prompts=120)["shuffled"]
    for name, share in {"shape": 1 / 6, "colour": 1 / 8, "size": 1 / 2, "background": 1 / 8}.items():
        tolerance = 3.5 * np.sqrt(share * (1 - share) / 120)
        assert shuffled["attributes"][name] == pytest.approx(share, abs=tolerance)
        assert shuffled["chance"]["attributes"][name] == pytest.approx(share, abs=0.06)
    assert shuffled["accuracy"] <= 3 / 120


def test_what_each_row_hands_over(perfect):
    generator, _, _ = perfect
    # One batch a row: one_object, two_objects, compositional, embedding_only, true_embedding, free_wording.
    single = [call for call in generator.calls if call[0] == PROMPTS]
    assert [(given, empty) for _, _, _, given, empty in single] == [
        (None, False),
        (None, False),
        (None, False),
        (None, True),
        (PROMPTS, True),
        (None, False),
    ]
    assert {seed for _, seed, _, _, _ in generator.calls} == {SEED}
    others = [(count, first) for count, _, first, _, _ in generator.calls if count != PROMPTS]
    diversity, unnamed = [(32, 0), (32, 32), (32, 64), (32, 96)], [(32, 0), (32, 32)]
    assert others == diversity + unnamed


def test_progress_counts_every_picture(perfect):
    _, _, calls = perfect
    for row in (*PICTURE_ROWS, *upsampler_measures.SIZES, "prior_cosine"):
        assert [call[1:] for call in calls if call[0] == row] == [(0, PROMPTS), (PROMPTS, PROMPTS)]
    assert [call[1:] for call in calls if call[0] == "diversity"][-1] == (128, 128)


def test_a_constant_picture_is_right_nowhere_and_has_no_diversity():
    scene = Scene("green", (Object("ring", "black", "large", 128.0, 128.0, 50.0),))
    generator = Perfect()

    def constant(prompts, **settings):
        return np.repeat(draw(scene)[None], len(prompts), axis=0)

    results = run(dataclasses.replace(generator.model(), generate_images=constant), *PICTURE_ROWS, "diversity")
    for row in PICTURE_ROWS:
        wanted = draw_prompts("one_object" if "embedding" in row else row, PROMPTS, SEED)
        same = [p for p in wanted if len(p.scene.objects) == 1 and says_at_most(p.caption, scene)]
        assert results[row]["accuracy"] == len(same) / PROMPTS <= 0.1
        assert results[row]["attributes"]["readable"] == 1.0
    assert results["two_objects"]["attributes"]["number"] == 0.0
    assert results["diversity"]["ratio"] == 0.0


def says_at_most(caption, scene):
    said = (caption.objects[0].shape, caption.objects[0].colour, caption.objects[0].size, caption.background)
    item = scene.objects[0]
    truth = (item.shape, item.colour, item.size, scene.background)
    return all(word in (None, value) for word, value in zip(said, truth, strict=True))


def test_unreadable_pictures_score_nothing_anywhere():
    def noise(prompts, *, seed, first_image, **settings):
        return np.random.default_rng(first_image).integers(0, 256, (len(prompts), 256, 256, 3), np.uint8)

    results = run(dataclasses.replace(Perfect().model(), generate_images=noise), "one_object", "diversity")
    assert results["one_object"]["accuracy"] == 0.0
    assert set(results["one_object"]["attributes"].values()) == {0.0}
    assert results["diversity"]["ratio"] is None
    assert results["diversity"]["pictures"] == 0


def test_a_dead_prior_shows_where_the_decoder_cannot_read_the_caption():
    generator = Perfect()

    def reads_captions_only(prompts, *, image_embeddings=None, empty_caption=False, **settings):
        if empty_caption:
            prompts = list(generator.scenes)[: len(prompts)][::-1]
        return generator.generate_images(prompts, **settings)

    results = run(dataclasses.replace(generator.model(), generate_images=reads_captions_only), *PICTURE_ROWS)
    assert results["one_object"]["accuracy"] == 1.0
    assert results["embedding_only"]["accuracy"] <= 0.1
    assert results["true_embedding"]["accuracy"] <= 0.1


def test_diversity_is_the_planted_spread_over_that_of_the_data(monkeypatch):
    # Eight centres at +-d on both axes: unbiased variance 8 d^2 / 7 on each.
    distance = 20.0
    signs = [(1, 1), (1, -1), (-1, 1), (-1, -1)] * 2
    scene = Scene("black", (Object("square", "white", "small", 128.0, 128.0, 30.0),))

    def planted(prompts, *, first_image, **settings):
        item = scene.objects[0]
        centres = [signs[(first_image + place) % 8] for place in range(len(prompts))]
        moved = [dataclasses.replace(item, x=128 + distance * x, y=128 + distance * y) for x, y in centres]
        return np.stack([draw(dataclasses.replace(scene, objects=(item,))) for item in moved])

    result = run(dataclasses.replace(Perfect().model(), generate_images=planted), "diversity")["diversity"]
    assert result["prompts"] == 16 and result["pictures"] == 128
    assert result["spread"] == pytest.approx(distance * np.sqrt(8 / 7), rel=0.01)
    assert result["ratio"] == pytest.approx(result["spread"] / result["spread_of_data"])
    # A coordinate is uniform over the frame less margin and object. Small objects reach 28 to 36 px, turned a little
    # more, so its deviation is about (256 - 12 - 2 * 34) / sqrt 12 = 51; large ones (256 - 12 - 2 * 55) / sqrt 12 = 39.
    assert 39 < result["spread_of_data"] < 51


def test_bicubic_itself_gains_nothing():
    def bicubic(low_res, *, size, **settings):
        return images.to_uint8(images.resize(low_res, size))

    results = run(dataclasses.replace(Perfect().model(), upsample=bicubic), *upsampler_measures.SIZES, prompts=4)
    for row in upsampler_measures.SIZES:
        assert results[row]["psnr_gain"] == results[row]["gap_closed"] == 0.0
        assert results[row]["flat"] == results[row]["flat_bicubic"] < results[row]["flat_true"]


def test_the_upsamplers_input_is_an_exact_average():
    picture = np.zeros((16, 16, 3), np.uint8)
    picture[4:8, 4:6] = 255  # half of one pixel of the small picture
    expected = np.full((4, 4, 3), -1.0)
    expected[1, 1] = 0.0
    np.testing.assert_allclose(upsampler_input(picture), expected, atol=1e-6)


def test_rows_run_alone_and_in_the_suites_order():
    assert tuple(run(Perfect().model(), "clip_retrieval", "one_object")) == ("one_object", "clip_retrieval")


def test_another_seed_asks_for_other_pictures():
    asked = []

    def note(prompts, *, seed, **settings):
        asked.append((seed, tuple(prompts)))
        return np.zeros((len(prompts), 256, 256, 3), np.uint8)

    model = dataclasses.replace(Perfect().model(), generate_images=note)
    for seed in (100, 101, 100):
        run(model, "one_object", seed=seed)
    assert asked[0] == asked[2]
    assert asked[0][0] != asked[1][0]
    assert not set(asked[0][1]) & set(asked[1][1])


def test_measures_declare_whether_they_generate_images(perfect):
    generator, _, _ = perfect
    declared = {measure.name for measure in SUITE.measures if measure.generates_images}
    # shuffled and flatness use the images of one_object, which ran before them.
    assert declared - generator.generated_for == {"shuffled", "flatness"}
    assert generator.generated_for <= declared


def test_shapes_suite_has_all_rows_in_this_order():
    assert ROWS == (
        *("one_object", "two_objects", "compositional", "embedding_only", "true_embedding", "from_16px", "from_64px"),
        *("reader", "free_wording", "shuffled", "diversity", "flatness", "unnamed"),
        *("upsampler_16_to_64", "upsampler_64_to_256", "clip_retrieval", "clip_attributes", "prior_cosine"),
    )


def test_images_of_one_object_are_generated_once_for_all_measures_that_use_them():
    generator = Perfect()
    run(generator.model(), "shuffled", "flatness", "one_object")
    assert len(generator.calls) == 1
