"""Micro-batches: the mean over parts is the mean over the batch, and the memory is one part's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.quick import jit
from tests.randomised import randomise
from tests.tasks.tiny_tasks import ROWS, batch, clip_task, decoder_task, frozen, prior_task, upsampler_task
from tests.training.changes import changed
from unclip_jax.training.accumulation import mean_over_parts
from unclip_jax.training.step import make_steps, parts_of
from unclip_jax.training.task import make_keys


def gradient(task, micro_batches: int):
    """Loss, metrics and gradient of the eight examples, as the training step works them out."""
    data, fixed = batch(), frozen()
    params = randomise(jax.eval_shape(task.init, jax.random.key(1), data), 3)

    def of_part(part, number):
        keys = make_keys(0, "train", 5, part["row"], number)
        return jax.value_and_grad(task.loss, has_aux=True)(params, fixed, part, keys)

    return jit(lambda data: mean_over_parts(of_part, data, micro_batches))(data)


@pytest.mark.parametrize(
    "task",
    [prior_task(), pytest.param(decoder_task(), marks=pytest.mark.slow), upsampler_task()],
    ids=lambda task: type(task).__name__,
)
def test_four_micro_batches_are_one_batch(task):
    assert task.rows_are_independent
    whole, parts = gradient(task, 1), gradient(task, 4)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5), parts, whole)


def test_the_contrastive_loss_sees_the_whole_batch_in_micro_batches_too():
    task = clip_task()
    assert not task.rows_are_independent
    (whole, _), wanted = gradient(task, 1)
    (parts, _), found = gradient(type(task)(task.model, micro_batches=4), 1)
    np.testing.assert_allclose(parts, whole, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5), found, wanted)
    (apart, _), _ = gradient(task, 4)  # each part against itself alone: another, easier loss
    assert apart < 0.9 * whole


def test_a_step_in_micro_batches_is_the_step_of_the_batch_and_draws_dropout_for_each(tiny, make_task):
    def losses(micro_batches, task):
        config = changed(tiny["config"], training__micro_batches=micro_batches)
        data = tiny["train_data"].batches(0)
        first = next(data)
        steps = make_steps(task, config=config, frozen=tiny["frozen"], batch=first, mesh=tiny["mesh"])
        state, metrics = steps.train(steps.init(), tiny["frozen"], first)
        return [float(metrics["loss"]), float(steps.train(state, tiny["frozen"], next(data))[1]["loss"])]

    without = make_task(dropout=0.0)
    np.testing.assert_allclose(losses(4, without), losses(1, without), rtol=1e-5)
    assert abs(losses(4, make_task())[0] / losses(1, make_task())[0] - 1) > 1e-4


def test_micro_batches_need_less_memory():
    task, data, fixed = upsampler_task(), batch(), frozen()
    data = {name: np.repeat(rows, 8, axis=0) for name, rows in data.items()} | {"row": np.arange(8 * ROWS)}
    shapes = jax.eval_shape(task.init, jax.random.key(1), data)

    def temporary(parts: int) -> int:
        def of_part(params, part, number):
            keys = make_keys(0, "train", 0, part["row"], number)
            return jax.value_and_grad(task.loss, has_aux=True)(params, fixed, part, keys)

        step = jit(lambda p, d: mean_over_parts(lambda part, number: of_part(p, part, number), d, parts))
        return step.lower(shapes, data).compile().memory_analysis().temp_size_in_bytes

    assert temporary(8) < temporary(1) / 3


def test_parts_of_a_task_follow_the_config(tiny):
    config = changed(tiny["config"], training__micro_batches=4)
    assert parts_of(prior_task(), config) == 4
    assert parts_of(clip_task(), config) == 1


def test_one_part_is_numbered_zero():
    assert mean_over_parts(lambda part, number: (part.sum(), number), jnp.ones(3), 1) == (3.0, 0)
