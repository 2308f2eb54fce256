"""Micro-batches: the mean over parts is the mean over the batch, and the memory is one part's."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.quick import jit
from tests.randomised import randomise
from tests.tasks.tiny_tasks import ROWS, batch, clip_task, decoder_task, frozen, prior_task, upsampler_task
from tests.training.changes import changed
from unclip_jax.training.accumulation import mean_over_micro_batches
from unclip_jax.training.compiled_functions import compile_functions, num_micro_batches
from unclip_jax.training.task import make_keys


def gradient(task, micro_batches: int):
    """Loss, metrics and gradient of the eight examples, as the training step works them out."""
    data, fixed = batch(), frozen()
    params = randomise(jax.eval_shape(task.init, jax.random.key(1), data), 3)

    def of_part(part, index, carry):
        keys = make_keys(0, "train", 5, part["row"], index)
        return jax.value_and_grad(task.loss, has_aux=True)(params, fixed, part, keys), carry

    return jit(lambda data: mean_over_micro_batches(of_part, data, micro_batches, {})[0])(data)


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
        functions = compile_functions(task, config=config, frozen=tiny["frozen"], batch=first, mesh=tiny["mesh"])
        state, metrics = functions.train(functions.initialize(), tiny["frozen"], first)
        return [float(metrics["loss"]), float(functions.train(state, tiny["frozen"], next(data))[1]["loss"])]

    without = make_task(dropout=0.0)
    np.testing.assert_allclose(losses(4, without), losses(1, without), rtol=1e-5)
    assert abs(losses(4, make_task())[0] / losses(1, make_task())[0] - 1) > 1e-4


def test_micro_batches_need_less_memory():
    task, data, fixed = upsampler_task(), batch(), frozen()
    data = {name: np.repeat(rows, 8, axis=0) for name, rows in data.items()} | {"row": np.arange(8 * ROWS)}
    shapes = jax.eval_shape(task.init, jax.random.key(1), data)

    def temporary(parts: int) -> int:
        def of_part(params, part, index, carry):
            keys = make_keys(0, "train", 0, part["row"], index)
            return jax.value_and_grad(task.loss, has_aux=True)(params, fixed, part, keys), carry

        step = jit(lambda p, d: mean_over_micro_batches(functools.partial(of_part, p), d, parts, {})[0])
        return step.lower(shapes, data).compile().memory_analysis().temp_size_in_bytes

    assert temporary(8) < temporary(1) / 3


def test_num_micro_batches_follows_config_and_task(tiny):
    config = changed(tiny["config"], training__micro_batches=4)
    assert num_micro_batches(prior_task(), config) == 4
    assert num_micro_batches(clip_task(), config) == 1


def test_one_micro_batch_has_index_zero():
    assert mean_over_micro_batches(lambda part, index, carry: ((part.sum(), index), carry), jnp.ones(3), 1, 7) == (
        (3.0, 0),
        7,
    )


def test_carry_goes_through_the_micro_batches_in_order():
    """Rows 0 to 5 in three micro-batches: (0, 3), (1, 4), (2, 5)."""

    def function(part, index, carry):
        return {"sum": part.sum(), "carry": 1.0 * carry}, 10 * carry + index

    mean, carry = mean_over_micro_batches(function, jnp.arange(6.0), 3, jnp.int32(4))
    assert mean == {"sum": (3 + 5 + 7) / 3, "carry": (4 + 40 + 401) / 3} and carry == 4012
