"""Diffusion sampling of one stage, compared with closed forms: guidance, seeds, intervals and inversion."""

import dataclasses

import jax
import numpy as np
import pytest

from tests.sampling import line
from unclip_jax.diffusion.timesteps import even_path, stride_path
from unclip_jax.sampling import diffusion
from unclip_jax.sampling.diffusion import sample_diffusion
from unclip_jax.sampling.rows import SampleRequest, row_keys


def sampled(stage, offset, *, empty=0.0, **arguments):
    arguments = {"settings": stage.spec.sampling, "request": line.request(len(offset))} | arguments
    return sample_diffusion(stage, line.call(offset, empty), **arguments)


def first_noise(request):
    """Returns x_T of every row, from the row's key folded with 0. DDIM with eta=0 uses no other noise."""
    keys = row_keys(request.row_ids("line"))
    return np.stack([jax.random.normal(jax.random.fold_in(key, 0), (line.SIZE,)) for key in keys])


OFFSET = np.array([0.3, -0.2, 0.1])
A, EMPTY = 0.5, -0.4


def expected_samples(scales, path, *, interval=(0, 999), request=None):
    """Returns DDIM samples with classifier-free guidance, with scale 1 outside `interval`."""
    scales = np.broadcast_to(np.asarray(scales, float), (3,))[:, None]

    def network(x, t):
        scale = scales if interval[0] <= t <= interval[1] else 1.0
        return A * x + EMPTY + scale * (OFFSET[:, None] - EMPTY)

    return line.ddim(first_noise(request or line.request(3)), path, network)


# ---- guidance and seeds


def test_guidance_scale_can_differ_per_row():
    stage, scales = line.stage(a=A, steps=20), [1.0, 2.5, -3.0]
    settings = dataclasses.replace(stage.spec.sampling, steps=10)
    made = sampled(stage, OFFSET, empty=EMPTY, settings=settings, guidance_scale=scales)
    for row, scale in enumerate(scales):
        one = dataclasses.replace(settings, guidance_scale=scale)
        np.testing.assert_allclose(made[row], sampled(stage, OFFSET, empty=EMPTY, settings=one)[row], atol=1e-5)


def test_guidance_matches_closed_form():
    stage = line.stage(a=A)
    settings = dataclasses.replace(stage.spec.sampling, steps=10)
    made = sampled(stage, OFFSET, empty=EMPTY, settings=settings, guidance_scale=[1.0, 2.5, -3.0])
    np.testing.assert_allclose(made, expected_samples([1.0, 2.5, -3.0], even_path(10)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scales", [[1.0, 2.0], 2.0, [1.0, np.nan, 2.0], [[1.0, 2.0, 3.0]]])
def test_guidance_scale_must_be_one_finite_number_per_row(scales):
    with pytest.raises(ValueError, match="guidance_scale of line must be 3 finite numbers, got"):
        sampled(line.stage(), OFFSET, guidance_scale=scales)


def test_noise_of_a_row_depends_on_its_seed():
    stage, offset = line.stage(a=0.9, steps=30), np.zeros(3)
    settings = dataclasses.replace(stage.spec.sampling, steps=5, sampler="ddpm")
    mixed = sampled(stage, offset, settings=settings, request=line.request(3, seed=[3, 5, 3]))
    of_3, of_5 = (sampled(stage, offset, settings=settings, request=line.request(3, seed=seed)) for seed in (3, 5))
    np.testing.assert_allclose(mixed, np.stack([of_3[0], of_5[1], of_3[2]]), atol=1e-6)
    assert np.all(np.abs(of_3 - of_5).max(axis=1) > 0.01)


# ---- the guidance interval


@pytest.fixture
def steps_by_program(monkeypatch):
    """{guided: timesteps at which the compiled function with or without guidance called the network}."""
    compiled, taken = diffusion._compiled, {True: [], False: []}

    def spied(program):
        begin, segment = compiled(program)

        def spy(params, state, path, *rest):
            path = np.asarray(path)
            taken[program.guided] += path[:-1][path[:-1] != path[1:]].tolist()
            return segment(params, state, path, *rest)

        return begin, spy

    monkeypatch.setattr(diffusion, "_compiled", spied)
    return taken


@pytest.mark.parametrize(
    ("interval", "guided"),
    [
        (None, 12), ((0, 999), 12), ((200, 700), 5), ((0, 0), 1), ((999, 999), 1), ((900, 950), 1), ((1, 90), 0),
    ],
)  # fmt: skip
def test_steps_outside_guidance_interval_run_without_guidance(steps_by_program, interval, guided):
    stage, path = line.stage(a=A), even_path(12)  # 999, 908, 817, 727, ..., 91, 0
    settings = dataclasses.replace(stage.spec.sampling, steps=12, guidance_scale=3.0, guidance_interval=interval)
    made = sampled(stage, OFFSET, empty=EMPTY, settings=settings)
    first, last = interval or (0, 999)
    inside = [t for t in path[:-1].tolist() if first <= t <= last]
    assert len(inside) == guided
    assert steps_by_program == {True: inside, False: [t for t in path[:-1].tolist() if t not in inside]}
    np.testing.assert_allclose(made, expected_samples(3.0, path, interval=(first, last)), rtol=1e-4, atol=1e-5)


def test_guidance_interval_has_no_effect_without_guidance(steps_by_program):
    stage = line.stage(a=A)
    settings = dataclasses.replace(stage.spec.sampling, steps=12, guidance_interval=(200, 700))
    sampled(stage, OFFSET, empty=EMPTY, settings=settings)
    assert steps_by_program == {True: [], False: even_path(12)[:-1].tolist()}


# ---- start and inversion

START = np.linspace(-0.9, 0.9, 9, dtype=np.float32).reshape(3, line.SIZE)


def test_sampling_starts_from_start():
    stage, path = line.stage(predicts="eps", a=0.2), even_path(10)
    settings = dataclasses.replace(stage.spec.sampling, steps=10)
    made = sampled(stage, OFFSET, settings=settings, start=START)
    expected = line.ddim(START, path, lambda x, t: 0.2 * x + OFFSET[:, None], predicts="eps")
    np.testing.assert_allclose(made, expected, rtol=2e-4, atol=1e-3)


@pytest.mark.parametrize("steps", ["ddim2", "ddim8", "ddim9", "ddim20"])
def test_inversion_ends_at_the_latent_and_sampling_recovers_the_start(steps):
    """If eps is constant, x0 = (x_t - noise_t eps) / signal_t is the same at every step in both directions.

    Inversion treats the clean start as x_0, so sampling ends at (start - noise_0 eps) / signal_0.
    """
    stage = line.stage(predicts="eps")
    settings = dataclasses.replace(stage.spec.sampling, steps=steps)
    top = stride_path(int(steps.removeprefix("ddim")))[0]
    signal, noise, e = np.sqrt(line.alpha_bar()), np.sqrt(1.0 - line.alpha_bar()), OFFSET[:, None]
    x0 = (START - noise[0] * e) / signal[0]
    latent = sampled(stage, OFFSET, settings=settings, start=START, invert=True)
    np.testing.assert_allclose(latent, signal[top] * x0 + noise[top] * e, atol=1e-5)
    back = sampled(stage, OFFSET, settings=settings, start=latent)
    np.testing.assert_allclose(back, x0, atol=2e-5)
    np.testing.assert_allclose(back, START, atol=0.31 * noise[0])


def test_last_step_params_are_used_at_the_least_noise_in_both_directions():
    """In both directions the step from t = 0 uses a_last * x, and all other steps use a * x."""
    a, a_last, path = 0.3, -2.0, [668, 334, 0, -1]
    stage = line.stage(predicts="eps", a=a, a_last=a_last)
    settings = dataclasses.replace(stage.spec.sampling, steps="ddim3")

    def network(x, t):
        return (a_last if t == 0 else a) * x

    up = line.ddim(START, [0, 334, 668], network, predicts="eps")
    latent = sampled(stage, np.zeros(3), settings=settings, start=START, invert=True)
    np.testing.assert_allclose(latent, up, rtol=1e-4)
    down = line.ddim(up, path, network, predicts="eps")
    np.testing.assert_allclose(sampled(stage, np.zeros(3), settings=settings, start=latent), down, rtol=1e-4)
    # With `a` at every step, the result is different.
    assert np.max(np.abs(line.ddim(START, [0, 334, 668], lambda x, t: a * x, predicts="eps") - up)) > 0.01


def test_inversion_requires_start_and_two_steps():
    stage = line.stage(predicts="eps", a_last=1.0)
    with pytest.raises(ValueError, match="^start of line must be the clean samples if invert=True, got None.$"):
        sampled(stage, OFFSET, invert=True)
    settings = dataclasses.replace(stage.spec.sampling, steps=1)
    with pytest.raises(ValueError, match="^steps of line must be at least 2 if invert=True, got 1.$"):
        sampled(stage, OFFSET, settings=settings, start=START, invert=True)


def test_progress_counts_steps_of_all_chunks(monkeypatch):
    seen = []
    stage = line.stage(a=A)
    settings = dataclasses.replace(stage.spec.sampling, steps=12, guidance_scale=3.0, guidance_interval=(200, 700))
    request = dataclasses.replace(line.request(3), progress=lambda *step: seen.append(step))
    monkeypatch.setattr("unclip_jax.sampling.rows.ROWS_PER_DEVICE", {16: 2})
    sampled(stage, OFFSET, settings=settings, request=request)
    # Each of the two chunks has 4 steps without guidance, 5 with guidance and 3 without guidance.
    assert [done for _, done, _ in seen] == [4, 9, 12, 16, 21, 24]
    assert {(name, total) for name, _, total in seen} == {("line", 24)}


def test_request_without_devices_uses_all_local_devices():
    """The result is the same as on one device."""
    stage = line.stage(a=A)
    settings = dataclasses.replace(stage.spec.sampling, steps=4)
    every = SampleRequest(seed=0, image_ids=np.arange(3))
    assert every.all_devices() == tuple(jax.local_devices())
    np.testing.assert_allclose(
        sampled(stage, OFFSET, settings=settings, request=every), sampled(stage, OFFSET, settings=settings), atol=1e-6
    )
