"""Every task learns: a tiny network brings the loss on eight examples to a third, and uses each of its conditions."""

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
from unclip_jax.tasks.contrastive import MOMENTS, info_nce, untold
from unclip_jax.tasks.decoder import jitter_colors


def keys(step: int) -> types.SimpleNamespace:
    key = jax.random.fold_in(jax.random.key(0), step)
    return types.SimpleNamespace(rows=rng.rows(key, jnp.arange(ROWS)), layers=rng.named(key, "layers"))


def train(task, learning_rate: float, steps: int) -> tuple[dict, dict]:
    """The parameters before and after."""
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
    """(parameters, data) -> the mean loss over 32 draws of steps and noise, the same ones every time."""
    fixed = frozen()
    one = quick.jit(lambda params, data, number: task.loss(params, fixed, data, keys(number))[0])
    return lambda params, data: float(np.mean([one(params, data, 100_000 + number) for number in range(32)]))


def rolled(data: dict, *fields: str) -> dict:
    return {name: np.roll(value, 1, axis=0) if name in fields else value for name, value in data.items()}


def test_clip_learns_and_uses_its_captions():
    loss, (fresh, trained) = mean_loss(clip_task()), train(clip_task(), 1e-3, 100)
    after = loss(trained, batch())
    assert after < loss(fresh, batch()) / 3
    assert loss(trained, rolled(batch(), "tokens")) > 10 * after


def test_prior_learns_and_uses_its_caption():
    loss, (fresh, trained) = mean_loss(prior_task()), train(prior_task(), 2e-3, 400)
    after = loss(trained, batch())
    assert after < loss(fresh, batch()) / 3
    assert loss(trained, rolled(batch(), "tokens")) > 2 * after


@pytest.mark.slow
def test_decoder_learns_and_uses_embedding_and_caption_each_alone():
    task = decoder_task()
    loss, (fresh, trained) = mean_loss(task), train(task, 3e-3, 600)
    assert loss(trained, batch()) < loss(fresh, batch()) / 3
    by_embedding = dataclasses.replace(task, drop_image=0.0, drop_text=1.0)
    by_caption = dataclasses.replace(task, drop_image=1.0, drop_text=0.0)
    # A caption is there for half of the rows only, and most of the noise can be told from the noised picture itself.
    for variant, field, margin in ((by_embedding, "clip_image", 1.1), (by_caption, "tokens", 1.05)):
        loss = mean_loss(variant)
        assert loss(trained, rolled(batch(), field)) > margin * loss(trained, batch()), field


def test_upsampler_learns_and_uses_its_low_resolution_input():
    loss, (fresh, trained) = mean_loss(upsampler_task()), train(upsampler_task(), 3e-3, 400)
    after = loss(trained, batch())
    assert after < loss(fresh, batch()) / 3
    assert loss(trained, rolled(batch(), "low_res")) > 1.5 * after


def test_info_nce_by_hand():
    """Two orthogonal pairs at scale s: each softmax gives its own pair e^s / (e^s + 1)."""
    image, text = jnp.array([[2.0, 0.0], [0.0, 0.5]]), jnp.array([[1.0, 0.0], [0.0, 3.0]])
    loss, accuracy = info_nce(image, text, jnp.asarray(2.0))
    np.testing.assert_allclose(loss, np.log1p(np.exp(-2.0)), rtol=1e-6)
    assert accuracy == 1.0
    swapped, accuracy = info_nce(image, text[::-1], jnp.asarray(2.0))
    np.testing.assert_allclose(swapped, np.log1p(np.exp(2.0)), rtol=1e-6)
    assert accuracy == 0.0


def test_info_nce_with_wrong_captions_by_hand():
    """The pair above, and for each picture a wrong caption that is like its own by cosine 0.6, and so unlike the other
    picture's by 0.8 at a right angle: a picture's softmax runs over 1, 0, 0.6 and 0.8, a caption's over 1 and 0."""
    image, text = jnp.array([[2.0, 0.0], [0.0, 0.5]]), jnp.array([[1.0, 0.0], [0.0, 3.0]])
    wrong = jnp.array([[3.0, 4.0], [4.0, 3.0]])
    by_image = -np.log(np.exp(2.0) / np.sum(np.exp([2.0, 0.0, 1.2, 1.6])))
    loss, accuracy = info_nce(image, jnp.concatenate([text, wrong]), jnp.asarray(2.0))
    np.testing.assert_allclose(loss, (by_image + np.log1p(np.exp(-2.0))) / 2.0, rtol=1e-6)
    assert accuracy == 1.0
    near = jnp.array([[1.0, 0.1], [1.0, 0.0]]) @ jnp.array([[1.0, 0.0], [0.0, 1.0]])
    _, accuracy = info_nce(image, jnp.concatenate([near, text]), jnp.asarray(2.0))
    assert accuracy == 0.0  # each picture is nearest to a wrong one


def test_wrong_captions_stand_behind_the_right_ones_and_parts_of_a_batch_change_nothing():
    task, data = clip_task(), batch()
    data["wrong_tokens"] = np.where(data["tokens"] < 30, data["tokens"] // 2, data["tokens"])
    params = task.init(jax.random.key(1), data)
    image, text, scale = task.model.apply({"params": params}, task._pixels(data), data["tokens"])
    wrong = task.model.apply({"params": params}, data["wrong_tokens"], method="encode_text")
    expected, _ = info_nce(image, jnp.concatenate([text.pooled, wrong.pooled]), scale)
    for micro_batches in (1, 2):
        loss, _ = dataclasses.replace(task, micro_batches=micro_batches).loss(params, {}, data, keys(0))
        np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_the_untold_share_is_one_minus_r_squared():
    """Variances 1 and 4; of the first an error of 0.5 at every row, of the second none, then all of it."""
    moments = jnp.array([[1.0, 2.0], [-1.0, -2.0]])
    assert float(untold(moments + jnp.array([0.5, 0.0]), moments)) == pytest.approx(0.25 / 1.001 / 2)
    assert float(untold(jnp.zeros((2, 2)), moments)) == pytest.approx((1.0 / 1.001 + 4.0 / 4.001) / 2)


def test_moments_are_told_from_the_picture_by_a_linear_map_beside_the_network():
    task, data = dataclasses.replace(clip_task(), moments_weight=3.0), batch()
    plain = task.init(jax.random.key(1), data)
    data["moments"] = np.random.default_rng(2).normal(size=(len(data["image"]), 5)).astype(np.float32)
    params = task.init(jax.random.key(1), data)
    assert jax.tree.map(jnp.shape, params.pop(MOMENTS)) == {"kernel": (16, 5), "bias": (5,)}
    chex.assert_trees_all_equal(params, plain)  # what comes beside the network leaves it as it is

    image, _, _ = task.model.apply({"params": params}, task._pixels(data), data["tokens"])
    unit = np.asarray(image) / np.linalg.norm(image, axis=-1, keepdims=True)
    kernel, *_ = np.linalg.lstsq(unit * 4.0, data["moments"] - 2.0)  # eight rows, sixteen numbers: told to the last
    told = {**params, MOMENTS: {"kernel": jnp.asarray(kernel), "bias": jnp.full(5, 2.0)}}
    nothing = {**params, MOMENTS: {"kernel": jnp.zeros((16, 5)), "bias": jnp.asarray(data["moments"].mean(0))}}
    contrast, _ = task.loss(plain, {}, {**batch()}, keys(0))
    for micro_batches in (1, 2):
        parted = dataclasses.replace(task, micro_batches=micro_batches)
        for learned, share in ((told, 0.0), (nothing, 1.0)):
            loss, metrics = parted.loss(learned, {}, data, keys(0))
            np.testing.assert_allclose(metrics["untold"], share, atol=3e-3)  # 1e-3 of a variance of about 1
            np.testing.assert_allclose(loss, contrast + 3.0 * metrics["untold"], rtol=1e-5)


def test_drops_are_ten_and_fifty_percent_and_independent():
    """Over 10,000 rows a share of p has a deviation of sqrt(p (1 - p) / 10,000); four of them are allowed."""
    image, text = decoder_task().drops(rng.rows(jax.random.key(3), jnp.arange(10_000)))
    both = image & text
    for drops, share in ((image, 0.1), (text, 0.5), (both, 0.05)):
        assert abs(float(jnp.mean(drops)) - share) < 4 * np.sqrt(share * (1 - share) / 10_000)
    dropped = prior_task().drops(rng.rows(jax.random.key(3), jnp.arange(10_000)))
    assert abs(float(jnp.mean(dropped)) - 0.1) < 4 * np.sqrt(0.1 * 0.9 / 10_000)


@pytest.mark.parametrize(
    "task_of, field", [(prior_task, "drop_text"), (decoder_task, "drop_text"), (decoder_task, "drop_image")]
)
def test_each_drop_changes_what_the_network_answers(task_of, field):
    kept = {"drop_text": 0.0} | ({"drop_image": 0.0} if task_of is decoder_task else {})
    data, fixed = batch(), frozen()
    params = randomise(task_of(**kept).init(jax.random.key(1), data), 2)
    losses = [
        float(task_of(**{**kept, field: share}).loss(params, fixed, data, keys(0))[0]) for share in (0.0, 1.0)
    ]
    assert abs(losses[0] - losses[1]) > 1e-3 * abs(losses[0])


def test_jittered_colours_are_an_affine_map_of_the_drawn_deviation():
    """Of a grey picture, colour 0, only b is left: normal of a deviation u `most`, so that its variance is most^2 / 3.
    A row's mean square deviates by 1.4 times its expectation, so that of 10,000 rows the mean is within 6 %, which is
    four deviations."""
    keys = rng.rows(jax.random.key(5), jnp.arange(10_000))
    colours = jnp.array([[0.0, 0.0, 0.0], [0.2, -0.4, 0.6], [0.1, -0.2, 0.3]])
    moved = np.asarray(jitter_colors(jnp.broadcast_to(colours, (10_000, 1, 3, 3)), keys, most=0.05))[:, 0]
    np.testing.assert_allclose(moved[:, 2], (moved[:, 0] + moved[:, 1]) / 2, atol=1e-6)
    assert np.mean(np.square(moved[:, 0])) == pytest.approx(0.05**2 / 3, rel=0.06)
    white = jitter_colors(jnp.ones((100, 2, 2, 3)), keys[:100], most=5.0)
    assert float(jnp.max(jnp.abs(white))) <= 1.0 and float(jnp.min(white)) < 0.0


def test_colours_are_jittered_in_rows_that_keep_their_caption_alone():
    data, fixed = batch(), frozen()
    params = randomise(decoder_task().init(jax.random.key(1), data), 2)

    def loss(**settings):
        return float(decoder_task(drop_image=0.0, **settings).loss(params, fixed, data, keys(0))[0])

    assert loss(drop_text=1.0, color_jitter=0.5) == loss(drop_text=1.0)
    assert abs(loss(drop_text=0.0, color_jitter=0.5) - loss(drop_text=0.0)) > 1e-4 * loss(drop_text=0.0)


@pytest.mark.parametrize("task_of", [prior_task, upsampler_task, functools.partial(decoder_task, vb_weight=0.0)])
def test_weights_and_draws_of_steps_reach_every_loss(task_of):
    # At t = 0 alone the ratio of signal to noise is 24,000, so that a weight of at most gamma is gamma over a constant,
    # and of twice as much twice the loss. Of steps drawn evenly many have a ratio below gamma, whose weight stays.
    data, fixed = batch(), frozen()
    params = randomise(task_of().init(jax.random.key(1), data), 2)

    def loss(gamma):
        task = task_of(snr_clip=(0.0, gamma), logit_normal=(-40.0, 1.0))
        return float(jax.jit(lambda: task.loss(params, fixed, data, keys(0))[0])())

    assert loss(2.0) == pytest.approx(2.0 * loss(1.0), rel=1e-5)
