"""The shapes suite on models with known results, such as one that renders every prompt perfectly."""

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
IMAGE_ROWS = ("one_object", "two_objects", "compositional", "embedding_only", "true_embedding", "free_wording")
UPSAMPLER_ROWS = ("from_16px", "from_64px")


def embed(images):
    """Embeds images as their pixels, so that only identical images are closest."""
    small = np.asarray(images, np.float64)[:, ::8, ::8].reshape(len(images), -1)
    return small - small.mean(axis=1, keepdims=True) + 1.0


def one_of(shape, rng):
    """Samples a scene with one object of a shape."""
    while True:
        scene = sample_scene(rng, num_objects=1)
        if scene.objects[0].shape == shape:
            return scene


def centered_scene(caption):
    """Returns the scene for a caption of the measure `clip_attributes`."""
    _, size, color, shape, _, _, background, _ = caption.split()
    extent = sum(SIZES[size]) / 2
    return Scene(background, (Object(shape, color, size, 128.0, 128.0, extent),))


class Perfect:
    """A model that renders the correct scene for every prompt of the suite. Records its calls in `calls`."""

    def __init__(self, seed=SEED, count=PROMPTS):
        selections = [draw_prompts(selection, count, seed) for selection in SELECTIONS]
        selections.append(draw_prompts("any", count, seed, distinct=True))
        self.scenes = {prompt.caption.text: prompt.scene for prompts in selections for prompt in prompts}
        rng = np.random.default_rng(1)
        self.unnamed = {f"a {shape}": one_of(shape, rng) for shape in SHAPES}
        self.scenes |= self.unnamed
        self.positions = np.random.default_rng(0)
        self.true = {}
        for row, size in upsampler_measures.SIZES.items():
            rng = stream(row, seed)
            for image in (draw(sample_scene(rng)) for _ in range(count)):
                image = image if size == 256 else thumbnail(image)
                self.true[upsampler_input(image).tobytes()] = image
        for prompt in draw_prompts("one_object", count, seed):
            image = draw(prompt.scene)
            small = thumbnail(image)
            self.true[upsampler_input(small).tobytes()] = small
            for low_res in (upsampler_input(image), images.to_unit(small)):
                self.true[low_res.tobytes()] = image
        self.calls = []

    def generate_images(self, prompts, *, seed, first_image, image_embeddings=None, empty_caption=False):
        embedding_count = None if image_embeddings is None else len(image_embeddings)
        self.calls.append((len(prompts), seed, first_image, embedding_count, empty_caption))
        if image_embeddings is not None:  # the prompts have no effect
            rendered = np.stack([draw(scene) for scene in self.scenes.values()])
            known = embed(rendered)
            nearest = [np.linalg.norm(known - z, axis=1).argmin() for z in image_embeddings]
            return rendered[nearest]
        return np.stack([draw(self.moved(self.scenes[prompt])) for prompt in prompts])

    def moved(self, scene):
        """Moves a single object to a random position."""
        if len(scene.objects) > 1:
            return scene
        item = scene.objects[0]
        x, y = self.positions.uniform(80, 176, 2)
        return dataclasses.replace(scene, objects=(dataclasses.replace(item, x=x, y=y),))

    def encode_text(self, prompts):
        return embed([draw(self.scenes.get(prompt) or centered_scene(prompt)) for prompt in prompts])

    def sample_prior(self, prompts, *, seed, first_image):
        return 3.0 * self.encode_text(prompts)

    def upsample(self, low_res, *, size, seed, first_image):
        return np.stack([self.true[small.tobytes()] for small in low_res])

    def model(self):
        return ModelUnderTest(self.generate_images, embed, self.encode_text, self.sample_prior, self.upsample)


@pytest.fixture(scope="module", autouse=True)
def few_reader_scenes():
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


def test_perfect_model_is_correct_in_every_row(perfect):
    _, results, _ = perfect
    assert tuple(results) == ROWS
    for row in (*IMAGE_ROWS, *UPSAMPLER_ROWS, "reader"):
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


def test_upsampled_images_pass_through_all_following_upsamplers():
    """The second upsampler returns gray images. Only one row calls the first upsampler."""
    perfect, calls = Perfect(), []

    def upsample(low_res, *, size, seed, first_image):
        calls.append((low_res.shape[1], size, len(low_res), seed, first_image))
        upsampled = perfect.upsample(low_res, size=size, seed=seed, first_image=first_image)
        return upsampled if size == 64 else np.full_like(upsampled, 128)

    results = run(dataclasses.replace(perfect.model(), upsample=upsample), *UPSAMPLER_ROWS)
    assert [results[row]["accuracy"] for row in UPSAMPLER_ROWS] == [0.0, 0.0]
    assert calls == [(16, 64, PROMPTS, SEED, 0), (64, 256, PROMPTS, SEED, 0), (64, 256, PROMPTS, SEED, 0)]


def test_flatness_is_the_fraction_of_pixels_close_to_a_color_of_the_scene():
    """A third of every image is one level too far from all colors, and another third is just close enough."""

    def tinted(prompts, **settings):
        rendered = Perfect().generate_images(prompts, **settings)
        tint = np.where(rendered > 127, -1, 1) * np.array([9, 8, 0]).repeat([85, 85, 86])[:, None]
        return (rendered + tint).astype(np.uint8)

    model = Perfect().model()
    changed = run(dataclasses.replace(model, generate_images=tinted), "flatness")["flatness"]
    unchanged = run(model, "flatness")["flatness"]
    assert unchanged["n"] == changed["n"] == PROMPTS
    assert unchanged["share"] == pytest.approx(unchanged["share_of_true"], abs=2e-3)
    assert changed["share_of_true"] == unchanged["share_of_true"]
    assert 0.985 < changed["share_of_true"] < 1.0
    assert changed["share"] == pytest.approx(changed["share_of_true"] * 171 / 256, abs=0.01)


def test_flatness_is_none_without_readable_images():
    def noise(prompts, **settings):
        return np.random.default_rng(0).integers(0, 256, (len(prompts), 256, 256, 3), np.uint8)

    result = run(dataclasses.replace(Perfect().model(), generate_images=noise), "flatness")["flatness"]
    assert result["share"] is None and result["n"] == 0


def test_unnamed_counts_attributes_that_prompts_do_not_name(perfect):
    generator, results, _ = perfect
    result = results["unnamed"]
    assert result["n"] == 64
    # Six prompts in turn: of 64 images, the first four shapes have 11 each and the others 10.
    expected = {"colour": {}, "size": {}, "background": {}}
    for index, scene in enumerate(generator.unnamed.values()):
        share = (11 if index < 4 else 10) / 64
        item = scene.objects[0]
        for name, value in (("colour", item.colour), ("size", item.size), ("background", scene.background)):
            expected[name][value] = expected[name].get(value, 0.0) + share
    for name, shares in result["shares"].items():
        assert {value: share for value, share in shares.items() if share} == pytest.approx(expected[name]), name
        assert sum(result["shares_of_data"][name].values()) == pytest.approx(1.0)
    # Both sizes are equally frequent, and so are the eight colors, within 3.5 standard errors of 4,096 samples.
    assert result["shares_of_data"]["size"]["small"] == pytest.approx(0.5, abs=0.03)
    for share in result["shares_of_data"]["background"].values():
        assert share == pytest.approx(1 / 8, abs=0.02)


def model_with_attributes(*attributes):
    """Returns a model whose CLIP embeddings contain only these attributes, with one dimension per value."""

    def encode(scenes):
        rows = [{**dataclasses.asdict(scene.objects[0]), "background": scene.background} for scene in scenes]
        known = [(name, value) for name in attributes for value in ATTRIBUTE_VALUES[name]]
        return np.array([[float(row[name] == value) for name, value in known] for row in rows])

    return dataclasses.replace(
        Perfect().model(),
        encode_image=lambda images: encode(read_scenes(images)),
        encode_text=lambda texts: encode(map(centered_scene, texts)),
    )


def test_clip_attributes_are_those_in_its_embeddings():
    everything = run(model_with_attributes("shape", "colour", "size", "background"), "clip_attributes")[
        "clip_attributes"
    ]
    assert everything == {"n": PROMPTS, "attributes": dict.fromkeys(("shape", "colour", "size", "background"), 1.0)}
    some = run(model_with_attributes("colour", "size"), "clip_attributes")["clip_attributes"]
    assert some["attributes"] == {"shape": 0.0, "colour": 1.0, "size": 1.0, "background": 0.0}


def test_unnamed_skips_images_of_two_objects():
    two = sample_scene(np.random.default_rng(2), num_objects=2)
    generator = Perfect()
    generator.scenes["a circle"] = two
    assert run(generator.model(), "unnamed")["unnamed"]["n"] == 64 - 11


def test_results_are_json_serializable(perfect):
    _, results, _ = perfect
    for result in results.values():
        text = json.dumps(result, allow_nan=False)
        assert json.loads(text).keys() == result.keys()


def test_shuffled_is_incorrect_when_all_captions_differ(perfect):
    _, results, _ = perfect
    # The 20 captions of this seed are all different, and no image is compared with its own caption.
    assert len({dataclasses.replace(p.caption, text="") for p in draw_prompts("one_object", PROMPTS, SEED)}) == PROMPTS
    shuffled = results["shuffled"]
    assert shuffled["accuracy"] == shuffled["chance"]["accuracy"] == 0.0
    assert shuffled["attributes"]["readable"] == 1.0


def test_shuffled_is_at_chance_level_in_every_attribute():
    generator = Perfect(count=120)
    shuffled = run(generator.model(), "shuffled", prompts=120)["shuffled"]
    for name, share in {"shape": 1 / 6, "colour": 1 / 8, "size": 1 / 2, "background": 1 / 8}.items():
        tolerance = 3.5 * np.sqrt(share * (1 - share) / 120)
        assert shuffled["attributes"][name] == pytest.approx(share, abs=tolerance)
        assert shuffled["chance"]["attributes"][name] == pytest.approx(share, abs=0.06)
    assert shuffled["accuracy"] <= 3 / 120


def test_rows_pass_expected_arguments_to_generate_images(perfect):
    generator, _, _ = perfect
    # One batch per row: one_object, two_objects, compositional, embedding_only, true_embedding, free_wording.
    single = [call for call in generator.calls if call[0] == PROMPTS]
    assert [(embeddings, empty) for _, _, _, embeddings, empty in single] == [
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


def test_progress_counts_all_images(perfect):
    _, _, calls = perfect
    for row in (*IMAGE_ROWS, *upsampler_measures.SIZES, "prior_cosine"):
        assert [call[1:] for call in calls if call[0] == row] == [(0, PROMPTS), (PROMPTS, PROMPTS)]
    assert [call[1:] for call in calls if call[0] == "diversity"][-1] == (128, 128)


def test_constant_image_has_low_accuracy_and_no_diversity():
    scene = Scene("green", (Object("ring", "black", "large", 128.0, 128.0, 50.0),))
    generator = Perfect()

    def constant(prompts, **settings):
        return np.repeat(draw(scene)[None], len(prompts), axis=0)

    results = run(dataclasses.replace(generator.model(), generate_images=constant), *IMAGE_ROWS, "diversity")
    for row in IMAGE_ROWS:
        prompts = draw_prompts("one_object" if "embedding" in row else row, PROMPTS, SEED)
        same = [p for p in prompts if len(p.scene.objects) == 1 and is_true_of(p.caption, scene)]
        assert results[row]["accuracy"] == len(same) / PROMPTS <= 0.1
        assert results[row]["attributes"]["readable"] == 1.0
    assert results["two_objects"]["attributes"]["number"] == 0.0
    assert results["diversity"]["ratio"] == 0.0


def is_true_of(caption, scene):
    named = (caption.objects[0].shape, caption.objects[0].colour, caption.objects[0].size, caption.background)
    item = scene.objects[0]
    truth = (item.shape, item.colour, item.size, scene.background)
    return all(word in (None, value) for word, value in zip(named, truth, strict=True))


def test_unreadable_images_have_no_accuracy_and_no_diversity():
    def noise(prompts, *, seed, first_image, **settings):
        return np.random.default_rng(first_image).integers(0, 256, (len(prompts), 256, 256, 3), np.uint8)

    results = run(dataclasses.replace(Perfect().model(), generate_images=noise), "one_object", "diversity")
    assert results["one_object"]["accuracy"] == 0.0
    assert set(results["one_object"]["attributes"].values()) == {0.0}
    assert results["diversity"]["ratio"] is None
    assert results["diversity"]["pictures"] == 0


def test_embedding_rows_reveal_a_decoder_that_ignores_embeddings():
    generator = Perfect()

    def ignore_embeddings(prompts, *, image_embeddings=None, empty_caption=False, **settings):
        if empty_caption:
            prompts = list(generator.scenes)[: len(prompts)][::-1]
        return generator.generate_images(prompts, **settings)

    results = run(dataclasses.replace(generator.model(), generate_images=ignore_embeddings), *IMAGE_ROWS)
    assert results["one_object"]["accuracy"] == 1.0
    assert results["embedding_only"]["accuracy"] <= 0.1
    assert results["true_embedding"]["accuracy"] <= 0.1


def test_diversity_is_the_known_spread_divided_by_that_of_the_dataset():
    # Eight centers at +-d on both axes have the unbiased variance 8 d^2 / 7 on each.
    distance = 20.0
    signs = [(1, 1), (1, -1), (-1, 1), (-1, -1)] * 2
    scene = Scene("black", (Object("square", "white", "small", 128.0, 128.0, 30.0),))

    def placed(prompts, *, first_image, **settings):
        item = scene.objects[0]
        centers = [signs[(first_image + index) % 8] for index in range(len(prompts))]
        moved = [dataclasses.replace(item, x=128 + distance * x, y=128 + distance * y) for x, y in centers]
        return np.stack([draw(dataclasses.replace(scene, objects=(item,))) for item in moved])

    result = run(dataclasses.replace(Perfect().model(), generate_images=placed), "diversity")["diversity"]
    assert result["prompts"] == 16 and result["pictures"] == 128
    assert result["spread"] == pytest.approx(distance * np.sqrt(8 / 7), rel=0.01)
    assert result["ratio"] == pytest.approx(result["spread"] / result["spread_of_data"])
    # Coordinates are uniform over the image without margins and object. Small objects have half-extents of 28 to 36 px,
    # slightly more if rotated, so their std is about (256 - 12 - 2 * 34) / sqrt 12 = 51. For large objects it is
    # (256 - 12 - 2 * 55) / sqrt 12 = 39.
    assert 39 < result["spread_of_data"] < 51


def test_bicubic_upsampling_has_no_gain():
    def bicubic(low_res, *, size, **settings):
        return images.to_uint8(images.resize(low_res, size))

    results = run(dataclasses.replace(Perfect().model(), upsample=bicubic), *upsampler_measures.SIZES, prompts=4)
    for row in upsampler_measures.SIZES:
        assert results[row]["psnr_gain"] == results[row]["gap_closed"] == 0.0
        assert results[row]["flat"] == results[row]["flat_bicubic"] < results[row]["flat_true"]


def test_upsampler_input_is_the_exact_mean():
    image = np.zeros((16, 16, 3), np.uint8)
    image[4:8, 4:6] = 255  # half of one low-resolution pixel
    expected = np.full((4, 4, 3), -1.0)
    expected[1, 1] = 0.0
    np.testing.assert_allclose(upsampler_input(image), expected, atol=1e-6)


def test_selected_rows_run_in_the_order_of_the_suite():
    assert tuple(run(Perfect().model(), "clip_retrieval", "one_object")) == ("one_object", "clip_retrieval")


def test_seed_determines_the_prompts():
    calls = []

    def record(prompts, *, seed, **settings):
        calls.append((seed, tuple(prompts)))
        return np.zeros((len(prompts), 256, 256, 3), np.uint8)

    model = dataclasses.replace(Perfect().model(), generate_images=record)
    for seed in (100, 101, 100):
        run(model, "one_object", seed=seed)
    assert calls[0] == calls[2]
    assert calls[0][0] != calls[1][0]
    assert not set(calls[0][1]) & set(calls[1][1])


def test_measures_declare_whether_they_generate_images(perfect):
    generator, _, _ = perfect
    declared = {measure.name for measure in SUITE.measures if measure.generates_images}
    # shuffled and flatness use the images of one_object, which runs earlier.
    assert declared - generator.generated_for == {"shuffled", "flatness"}
    assert generator.generated_for <= declared


def test_shapes_suite_has_expected_rows():
    names = tuple(measure.name for measure in SUITE.measures)
    assert names == (
        *("one_object", "two_objects", "compositional", "embedding_only", "true_embedding", "from_16px", "from_64px"),
        *("reader", "free_wording", "shuffled", "diversity", "flatness", "unnamed"),
        *("upsampler_16_to_64", "upsampler_64_to_256", "clip_retrieval", "clip_attributes", "prior_cosine"),
    )


def test_images_of_one_object_are_generated_once_for_all_measures():
    generator = Perfect()
    run(generator.model(), "shuffled", "flatness", "one_object")
    assert len(generator.calls) == 1
