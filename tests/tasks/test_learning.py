"""Learning of each task on eight examples.

Training reduces the loss to a third, and the trained network uses all of its conditions.
"""

import dataclasses
import functools
import types
from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests import quick
from tests.randomised import randomise
from tests.tasks.tiny_tasks import ROWS, batch, clip_task, decoder_task, frozen, prior_task, upsampler_task
from unclip_jax import rng
from unclip_jax.tasks.contrastive import SCENE_HEAD, info_nce, unexplained_variance
from unclip_jax.tasks.decoder import jitter_colors


def keys(step: int) -> types.SimpleNamespace:
    key = jax.random.fold_in(jax.random.key(0), step)
    return types.SimpleNamespace(rows=rng.rows(key, jnp.arange(ROWS)), layers=rng.named(key, "layers"))


def train(task, learning_rate: float, steps: int) -> tuple[dict, dict]:
    """Returns the parameters before and after training."""
    data, fixed = batch(), frozen()
    params = task.init(jax.random.key(1), data)
    optimizer = optax.adam(learning_rate)

    @jax.jit
    def step(params, state, number):
        gradients = jax.grad(lambda p: task.loss(p, fixed, data, keys(number))[0])(params)
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    trained, state = params, optimizer.init(params)
    for number in range(steps):
        trained, state = step(trained, state, number)
    return params, trained


def mean_loss(task) -> Callable[[dict, dict], float]:
    """Returns (parameters, data) -> mean loss over 32 fixed draws of steps and noise."""
    fixed = frozen()
    one = quick.jit(lambda params, data, number: task.loss(params, fixed, data, keys(number))[0])
    return lambda params, data: float(np.mean([one(params, data, 100_000 + number) for number in range(32)]))


def rolled(data: dict, *fields: str) -> dict:
    return {name: np.roll(value, 1, axis=0) if name in fields else value for name, value in data.items()}


def test_clip_learns_and_uses_captions():
    loss, (initial, trained) = mean_loss(clip_task()), train(clip_task(), 1e-3, 100)
    after = loss(trained, batch())
    assert after < loss(initial, batch()) / 3
    assert loss(trained, rolled(batch(), "tokens")) > 10 * after


def test_prior_learns_and_uses_captions():
    loss, (initial, trained) = mean_loss(prior_task()), train(prior_task(), 2e-3, 400)
    after = loss(trained, batch())
    assert after < loss(initial, batch()) / 3
    assert loss(trained, rolled(batch(), "tokens")) > 2 * after


@pytest.mark.slow
def test_decoder_learns_and_uses_embeddings_and_captions_separately():
    task = decoder_task()
    loss, (initial, trained) = mean_loss(task), train(task, 3e-3, 600)
    assert loss(trained, batch()) < loss(initial, batch()) / 3
    by_embedding = dataclasses.replace(task, drop_image=0.0, drop_text=1.0)
    by_caption = dataclasses.replace(task, drop_image=1.0, drop_text=0.0)
    # The margins are small: half of the rows have no caption, and the noisy image alone determines most of the noise.
    for variant, field, margin in ((by_embedding, "clip_image", 1.1), (by_caption, "tokens", 1.05)):
        loss = mean_loss(variant)
        assert loss(trained, rolled(batch(), field)) > margin * loss(trained, batch()), field


def test_upsampler_learns_and_uses_low_resolution_images():
    loss, (initial, trained) = mean_loss(upsampler_task()), train(upsampler_task(), 3e-3, 400)
    after = loss(trained, batch())
    assert after < loss(initial, batch()) / 3
    assert loss(trained, rolled(batch(), "low_res")) > 1.5 * after


def test_info_nce_matches_values_computed_by_hand():
    """With two orthogonal pairs and scale s, each softmax assigns e^s / (e^s + 1) to the matching pair."""
    image, text = jnp.array([[2.0, 0.0], [0.0, 0.5]]), jnp.array([[1.0, 0.0], [0.0, 3.0]])
    loss, accuracy = info_nce(image, text, jnp.asarray(2.0))
    np.testing.assert_allclose(loss, np.log1p(np.exp(-2.0)), rtol=1e-6)
    assert accuracy == 1.0
    swapped, accuracy = info_nce(image, text[::-1], jnp.asarray(2.0))
    np.testing.assert_allclose(swapped, np.log1p(np.exp(2.0)), rtol=1e-6)
    assert accuracy == 0.0


def test_info_nce_with_negative_captions_matches_values_computed_by_hand():
    """Adds negative captions whose cosine similarities are 0.6 to their image and 0.8 to the other one.

    The softmax of an image runs over the similarities 1, 0, 0.6 and 0.8, the softmax of a caption over 1 and 0.
    """
    image, text = jnp.array([[2.0, 0.0], [0.0, 0.5]]), jnp.array([[1.0, 0.0], [0.0, 3.0]])
    negative = jnp.array([[3.0, 4.0], [4.0, 3.0]])
    by_image = -np.log(np.exp(2.0) / np.sum(np.exp([2.0, 0.0, 1.2, 1.6])))
    loss, accuracy = info_nce(image, jnp.concatenate([text, negative]), jnp.asarray(2.0))
    np.testing.assert_allclose(loss, (by_image + np.log1p(np.exp(-2.0))) / 2.0, rtol=1e-6)
    assert accuracy == 1.0
    near = jnp.array([[1.0, 0.1], [1.0, 0.0]]) @ jnp.array([[1.0, 0.0], [0.0, 1.0]])
    _, accuracy = info_nce(image, jnp.concatenate([near, text]), jnp.asarray(2.0))
    assert accuracy == 0.0  # the most similar caption of each image is a negative one


def test_negative_captions_follow_captions_with_any_number_of_micro_batches():
    task, data = clip_task(), batch()
    data["wrong_tokens"] = np.where(data["tokens"] < 30, data["tokens"] // 2, data["tokens"])
    params = task.init(jax.random.key(1), data)
    image, text, scale = task.model.apply({"params": params}, task._pixels(data), data["tokens"])
    negative = task.model.apply({"params": params}, data["wrong_tokens"], method="encode_text")
    expected, _ = info_nce(image, jnp.concatenate([text.pooled, negative.pooled]), scale)
    for micro_batches in (1, 2):
        loss, _ = dataclasses.replace(task, micro_batches=micro_batches).loss(params, {}, data, keys(0))
        np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_unexplained_variance_is_one_minus_r_squared():
    """The variances of the targets are 1 and 4."""
    targets = jnp.array([[1.0, 2.0], [-1.0, -2.0]])
    first_is_off_by_half = targets + jnp.array([0.5, 0.0])
    assert float(unexplained_variance(first_is_off_by_half, targets)) == pytest.approx(0.25 / 1.001 / 2)
    all_zero = jnp.zeros((2, 2))
    assert float(unexplained_variance(all_zero, targets)) == pytest.approx((1.0 / 1.001 + 4.0 / 4.001) / 2)


def test_scene_head_predicts_scene_targets_from_image_embeddings():
    task, data = dataclasses.replace(clip_task(), moments_weight=3.0), batch()
    plain = task.init(jax.random.key(1), data)
    data["moments"] = np.random.default_rng(2).normal(size=(len(data["image"]), 5)).astype(np.float32)
    params = task.init(jax.random.key(1), data)
    assert jax.tree.map(jnp.shape, params.pop(SCENE_HEAD)) == {"kernel": (16, 5), "bias": (5,)}
    chex.assert_trees_all_equal(params, plain)  # the head does not affect the initial network

    image, _, _ = task.model.apply({"params": params}, task._pixels(data), data["tokens"])
    unit = np.asarray(image) / np.linalg.norm(image, axis=-1, keepdims=True)
    kernel, *_ = np.linalg.lstsq(unit * 4.0, data["moments"] - 2.0)  # exact, with 16 coefficients for eight rows
    exact = {**params, SCENE_HEAD: {"kernel": jnp.asarray(kernel), "bias": jnp.full(5, 2.0)}}
    constant = {**params, SCENE_HEAD: {"kernel": jnp.zeros((16, 5)), "bias": jnp.asarray(data["moments"].mean(0))}}
    contrastive_loss, _ = task.loss(plain, {}, {**batch()}, keys(0))
    for micro_batches in (1, 2):
        split_task = dataclasses.replace(task, micro_batches=micro_batches)
        for learned, expected in ((exact, 0.0), (constant, 1.0)):
            loss, metrics = split_task.loss(learned, {}, data, keys(0))
            np.testing.assert_allclose(metrics["untold"], expected, atol=3e-3)  # 1e-3 is added to variances of about 1
            np.testing.assert_allclose(loss, contrastive_loss + 3.0 * metrics["untold"], rtol=1e-5)


def test_drops_are_independent_with_10_and_50_percent():
    """The tolerance is four standard deviations. That of a fraction p is sqrt(p (1 - p) / 10,000)."""
    image, text = decoder_task().drops(rng.rows(jax.random.key(3), jnp.arange(10_000)))
    both = image & text
    for drops, p in ((image, 0.1), (text, 0.5), (both, 0.05)):
        assert abs(float(jnp.mean(drops)) - p) < 4 * np.sqrt(p * (1 - p) / 10_000)
    dropped = prior_task().drops(rng.rows(jax.random.key(3), jnp.arange(10_000)))
    assert abs(float(jnp.mean(dropped)) - 0.1) < 4 * np.sqrt(0.1 * 0.9 / 10_000)


@pytest.mark.parametrize(
    "task_of, field", [(prior_task, "drop_text"), (decoder_task, "drop_text"), (decoder_task, "drop_image")]
)
def test_each_drop_changes_the_loss(task_of, field):
    kept = {"drop_text": 0.0} | ({"drop_image": 0.0} if task_of is decoder_task else {})
    data, fixed = batch(), frozen()
    params = randomise(task_of(**kept).init(jax.random.key(1), data), 2)
    losses = [float(task_of(**{**kept, field: p}).loss(params, fixed, data, keys(0))[0]) for p in (0.0, 1.0)]
    assert abs(losses[0] - losses[1]) > 1e-3 * abs(losses[0])


def test_jitter_colors_is_an_affine_map_with_random_strength():
    """The color 0 becomes b, whose std is uniform in [0, max_std] and whose variance is max_std^2 / 3.

    The mean square of a row has a standard deviation of 1.4 times its expectation. Over 10,000 rows, 6% are therefore
    four standard deviations of the mean.
    """
    keys = rng.rows(jax.random.key(5), jnp.arange(10_000))
    colors = jnp.array([[0.0, 0.0, 0.0], [0.2, -0.4, 0.6], [0.1, -0.2, 0.3]])
    jittered = np.asarray(jitter_colors(jnp.broadcast_to(colors, (10_000, 1, 3, 3)), keys, max_std=0.05))[:, 0]
    np.testing.assert_allclose(jittered[:, 2], (jittered[:, 0] + jittered[:, 1]) / 2, atol=1e-6)
    assert np.mean(np.square(jittered[:, 0])) == pytest.approx(0.05**2 / 3, rel=0.06)
    white = jitter_colors(jnp.ones((100, 2, 2, 3)), keys[:100], max_std=5.0)
    assert float(jnp.max(jnp.abs(white))) <= 1.0 and float(jnp.min(white)) < 0.0


def test_color_jitter_applies_only_to_rows_with_caption():
    data, fixed = batch(), frozen()
    params = randomise(decoder_task().init(jax.random.key(1), data), 2)

    def loss(**settings):
        return float(decoder_task(drop_image=0.0, **settings).loss(params, fixed, data, keys(0))[0])

    assert loss(drop_text=1.0, color_jitter=0.5) == loss(drop_text=1.0)
    assert abs(loss(drop_text=0.0, color_jitter=0.5) - loss(drop_text=0.0)) > 1e-4 * loss(drop_text=0.0)


@pytest.mark.parametrize("task_of", [prior_task, upsampler_task, functools.partial(decoder_task, vb_weight=0.0)])
def test_snr_clip_and_logit_normal_affect_the_loss(task_of):
    # With these options all steps are t = 0, where the SNR is 24,000. All weights are therefore proportional to gamma.
    # With uniform steps, many rows have an SNR below gamma and their weights would not change.
    data, fixed = batch(), frozen()
    params = randomise(task_of().init(jax.random.key(1), data), 2)

    def loss(gamma):
        task = task_of(snr_clip=(0.0, gamma), logit_normal=(-40.0, 1.0))
        return float(jax.jit(lambda: task.loss(params, fixed, data, keys(0))[0])())

    assert loss(2.0) == pytest.approx(2.0 * loss(1.0), rel=1e-5)
