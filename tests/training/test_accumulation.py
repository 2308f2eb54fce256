"""Gradient accumulation over micro-batches: results and memory."""

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
    """Returns loss, metrics and gradient of the eight examples, as the training step computes them."""
    data, fixed = batch(), frozen()
    params = randomise(jax.eval_shape(task.init, jax.random.key(1), data), 3)

    def of_micro_batch(rows, index, carry):
        keys = make_keys(0, "train", 5, rows["row"], index)
        return jax.value_and_grad(task.loss, has_aux=True)(params, fixed, rows, keys), carry

    return jit(lambda data: mean_over_micro_batches(of_micro_batch, data, micro_batches, {})[0])(data)


@pytest.mark.parametrize(
    "task",
    [prior_task(), pytest.param(decoder_task(), marks=pytest.mark.slow), upsampler_task()],
    ids=lambda task: type(task).__name__,
)
def test_gradient_does_not_depend_on_number_of_micro_batches(task):
    assert task.rows_are_independent
    one, four = gradient(task, 1), gradient(task, 4)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5), four, one)


def test_contrastive_loss_covers_whole_batch_with_micro_batches():
    task = clip_task()
    assert not task.rows_are_independent
    (loss, _), expected = gradient(task, 1)
    (micro_batch_loss, _), actual = gradient(type(task)(task.model, micro_batches=4), 1)
    np.testing.assert_allclose(micro_batch_loss, loss, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5), actual, expected)
    (separate_loss, _), _ = gradient(task, 4)  # contrast within each micro-batch only, which is easier
    assert separate_loss < 0.9 * loss


def test_micro_batches_give_same_step_with_different_dropout(tiny, make_task):
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


def test_micro_batches_reduce_memory():
    task, data, fixed = upsampler_task(), batch(), frozen()
    data = {name: np.repeat(rows, 8, axis=0) for name, rows in data.items()} | {"row": np.arange(8 * ROWS)}
    shapes = jax.eval_shape(task.init, jax.random.key(1), data)

    def temporary_memory(micro_batches: int) -> int:
        def of_micro_batch(params, rows, index, carry):
            keys = make_keys(0, "train", 0, rows["row"], index)
            return jax.value_and_grad(task.loss, has_aux=True)(params, fixed, rows, keys), carry

        step = jit(lambda p, d: mean_over_micro_batches(functools.partial(of_micro_batch, p), d, micro_batches, {})[0])
        return step.lower(shapes, data).compile().memory_analysis().temp_size_in_bytes

    assert temporary_memory(8) < temporary_memory(1) / 3


def test_num_micro_batches_follows_config_and_task(tiny):
    config = changed(tiny["config"], training__micro_batches=4)
    assert num_micro_batches(prior_task(), config) == 4
    assert num_micro_batches(clip_task(), config) == 1


def test_one_micro_batch_has_index_zero():
    assert mean_over_micro_batches(lambda part, index, carry: ((part.sum(), index), carry), jnp.ones(3), 1, 7) == (
        (3.0, 0),
        7,
    )


def test_carry_passes_through_micro_batches_in_order():
    """The three micro-batches of the rows 0 to 5 are (0, 3), (1, 4) and (2, 5)."""

    def function(part, index, carry):
        return {"sum": part.sum(), "carry": 1.0 * carry}, 10 * carry + index

    mean, carry = mean_over_micro_batches(function, jnp.arange(6.0), 3, jnp.int32(4))
    assert mean == {"sum": (3 + 5 + 7) / 3, "carry": (4 + 40 + 401) / 3} and carry == 4012
