"""Transforms of denoisers and samplers: effect on samples, and no recompilation for other arrays."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.cascades.tiny import write_tiny_cascade
from tests.sampling import line
from tests.sampling.example_transforms import add, double, fill, nudge, nudge_images, with_x0
from unclip_jax.cascades.loading import load_cascade
from unclip_jax.cascades.text_to_image import text_to_image
from unclip_jax.sampling.diffusion import sample_diffusion
from unclip_jax.sampling.transforms import DenoiserTransform, SamplerTransform

PROMPTS = ["a red circle", "a green ring"]


def sampled(stage, offset, **arguments):
    return sample_diffusion(
        stage, line.call(offset), settings=stage.spec.sampling, request=line.request(len(offset)), **arguments
    )


OFFSET, ROWS = np.array([0.25, -0.5, 0.125]), np.array([1.0, 2.0, -3.0], np.float32)


def test_denoiser_transform_changes_each_row():
    """The network predicts x0 = offset for every x_t, so the sample is the transformed x0."""
    made = sampled(
        line.stage(steps=50), OFFSET, denoiser_transforms=[DenoiserTransform(add, rows=ROWS, shared=np.float32(0.5))]
    )
    np.testing.assert_allclose(made, np.tile((OFFSET + 0.5 * ROWS)[:, None], line.SIZE), atol=1e-6)


def test_denoiser_transforms_are_applied_in_order_between_guidance_and_clipping():
    adds, doubles = DenoiserTransform(add, rows=ROWS, shared=np.float32(0.25)), DenoiserTransform(double)
    for limit in (None, 1.0):
        stage = line.stage(steps=50, guidance_scale=3.0, clip_x0=limit)
        for transforms, expected in (
            ((adds, doubles), 2.0 * (3.0 * OFFSET + 0.25 * ROWS)),
            ((doubles, adds), 2.0 * (3.0 * OFFSET) + 0.25 * ROWS),
        ):
            made = sampled(stage, OFFSET, denoiser_transforms=transforms)
            expected = expected if limit is None else np.clip(expected, -1.0, 1.0)
            np.testing.assert_allclose(made[:, 0], expected, atol=2e-6)


def test_sampler_transform_changes_x_between_steps():
    """If the network predicts eps = 0, a step from t to u is x_u = sqrt(alpha_bar_u / alpha_bar_t) x_t."""
    stage = line.stage(predicts="eps", sampler="ddim")
    settings = dataclasses.replace(stage.spec.sampling, steps="2,2,2")
    path = [999, 667, 666, 334, 333, 0, -1]
    start = np.arange(9, dtype=np.float32).reshape(3, line.SIZE) / 10.0
    transform = SamplerTransform(nudge, rows=ROWS, shared=np.float32(0.5))
    made = sample_diffusion(
        stage, line.call([0.0] * 3), settings=settings, request=line.request(3), start=start,
        sampler_transforms=[transform],
    )  # fmt: skip
    expected, signal = start.astype(np.float64), np.sqrt(line.alpha_bar())
    for t, t_next in itertools.pairwise(path):
        expected = expected * signal[t_next] / signal[t] + (ROWS + 0.5)[:, None]
    np.testing.assert_allclose(made, expected, rtol=2e-4)


@pytest.mark.parametrize("kind", [DenoiserTransform, SamplerTransform])
def test_closures_and_partial_functions_are_rejected(kind):
    color = np.float32(1.0)

    def closure(denoiser, schedule, rows, shared):
        return with_x0(denoiser, schedule, lambda x0: x0 + color)

    for function in (closure, functools.partial(add, shared=color), None):
        with pytest.raises(ValueError, match="function of a transform must be defined at module level, got") as error:
            kind(function)
        assert "\n" not in str(error.value)


@dataclasses.dataclass(frozen=True)
class Scaled:
    """Transform with a static field."""

    factor: float

    def __call__(self, denoiser, schedule, rows, shared):
        return with_x0(denoiser, schedule, lambda x0: self.factor * x0)


@pytest.fixture
def compilations():
    counted = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: counted.append(event) if event == "/jax/core/compile/backend_compile_duration" else None
    )
    return counted


def test_changing_transform_arrays_does_not_recompile(compilations):
    stage = line.stage(steps=50)

    def run(row, shared, factor):
        denoiser = [
            DenoiserTransform(add, rows=np.float32(row), shared=np.float32(shared)),
            DenoiserTransform(Scaled(factor)),
        ]
        sampler = [SamplerTransform(nudge, rows=np.float32(row), shared=np.float32(shared))]
        return sampled(stage, [0.0], denoiser_transforms=denoiser, sampler_transforms=sampler)

    first = run([1.0], 2.0, 3.0)
    np.testing.assert_allclose(first, 3.0 * 2.0 + 3.0)
    before = len(compilations)
    np.testing.assert_allclose(run([4.0], 0.5, 3.0), 3.0 * 2.0 + 4.5)
    assert len(compilations) == before
    np.testing.assert_allclose(run([1.0], 2.0, 4.0), 4.0 * 2.0 + 3.0)
    assert len(compilations) > before


# ---- through a cascade


@pytest.fixture(scope="module")
def cascade(tmp_path_factory):
    folder = write_tiny_cascade(tmp_path_factory.mktemp("tiny") / "cascade")
    return load_cascade(folder, devices=jax.local_devices()[:1])


COLORS = np.array([[-1, -1, -1], [1, -1, 0.2], [0, 0.6, -0.2], [-0.6, 0.2, 1]], np.float32)
FILLED = np.broadcast_to(np.rint((COLORS + 1.0) * 127.5).astype(int)[:, None, None], (4, 8, 8, 3))


@pytest.mark.parametrize("settings", [{}, {"candidates": 3}, {"sampler": "dpm"}], ids=str)
def test_transform_rows_are_aligned_with_images(cascade, settings):
    """Also with two images per prompt and several candidates per image."""
    transforms = {"decoder": [DenoiserTransform(fill, rows=COLORS)]}
    made = text_to_image(
        cascade, PROMPTS, count=2, stop_after="decoder", denoiser_transforms=transforms, sampling={"decoder": settings}
    )
    np.testing.assert_allclose(made, FILLED, atol=1)


def test_sampler_transform_rows_are_aligned_with_images(cascade):
    """The denoiser transform makes x0 black; the sampler transform adds its rows after the last step."""
    black = DenoiserTransform(fill, rows=np.full((4, 3), -1.0, np.float32))
    made = text_to_image(
        cascade, PROMPTS, count=2, stop_after="decoder", denoiser_transforms={"decoder": [black]},
        sampler_transforms={"decoder": [SamplerTransform(nudge_images, rows=COLORS, shared=np.float32(1.0))]},
        sampling={"decoder": {"candidates": 2}},
    )  # fmt: skip
    np.testing.assert_allclose(made, FILLED, atol=1)


def fill_embedding(denoiser, schedule, rows, shared):
    return with_x0(denoiser, schedule, lambda z: jnp.broadcast_to(rows[:, None], z.shape))


def test_prior_transform_rows_are_aligned_with_images(cascade):
    """The embedding of the prior is mean + std * row in every dimension."""
    rows = np.array([-1.0, 0.0, 1.0, 2.0], np.float32)
    made = text_to_image(
        cascade, PROMPTS, count=2, candidates=3,
        denoiser_transforms={"diffusion_prior": [DenoiserTransform(fill_embedding, rows=rows)]},
    )  # fmt: skip
    mean, std = np.linspace(-1, 1, 16), np.linspace(1, 4, 16)
    expected = text_to_image(cascade, PROMPTS, count=2, image_embeddings=mean + std * rows[:, None])
    assert np.max(np.abs(made.astype(int) - expected)) <= 1


@pytest.mark.parametrize("what", ["denoiser_transforms", "sampler_transforms"])
@pytest.mark.parametrize(
    ("stage", "rows", "message"),
    [
        ("decodr", COLORS, "{what} must name stages that run, got decodr. Available: diffusion_prior, decoder.$"),
        ("upsampler_8_to_16", COLORS, "{what} must name stages that run, got upsampler_8_to_16. Available:"),
        ("decoder", COLORS[:2], "rows of transform 0 in {what} of decoder must have 4 entries, one per image, got 2.$"),
        ("decoder", np.float32(1.0), "rows of transform 0 in {what} of decoder must have 4 entries, .* got a scalar.$"),
    ],
)
def test_transforms_with_unknown_stage_or_wrong_row_count_are_rejected(cascade, what, stage, rows, message):
    kind = {"denoiser_transforms": DenoiserTransform, "sampler_transforms": SamplerTransform}[what]
    function = {"denoiser_transforms": fill, "sampler_transforms": nudge_images}[what]
    with pytest.raises(ValueError, match=message.format(what=what)) as error:
        text_to_image(cascade, PROMPTS, count=2, stop_after="decoder", **{what: {stage: [kind(function, rows=rows)]}})
    assert "\n" not in str(error.value)
