"""Compiled functions: training step, evaluation, previews and their random keys."""

import jax
import numpy as np
import pytest

from tests.training.changes import changed
from unclip_jax.training.compiled_functions import compile_functions
from unclip_jax.training.task import make_keys


@pytest.fixture
def functions_of(tiny):
    def make(task=None, **training):
        config = changed(tiny["config"], **{f"training__{name}": value for name, value in training.items()})
        inputs = {"frozen": tiny["frozen"], "batch": next(tiny["train_data"].batches(0)), "mesh": tiny["mesh"]}
        return compile_functions(task or tiny["task"], config=config, **inputs)

    return make


def host(tree):
    return jax.tree.map(np.array, tree)


def test_step_updates_parameters_ema_and_optimizer_state(functions_of, tiny):
    functions = functions_of()
    state = functions.initialize()
    before = host(state)
    state, metrics = functions.train(state, tiny["frozen"], next(tiny["train_data"].batches(0)))
    after = host(state)
    assert after.step == 1 and after.skipped == 0 and float(metrics["skipped_in_a_row"]) == 0
    for name in ("params", "ema", "opt_state"):
        pairs = zip(jax.tree.leaves(getattr(before, name)), jax.tree.leaves(getattr(after, name)), strict=True)
        assert all(np.any(old != new) for old, new in pairs), name
    # d = 1/10 in the first update of the average
    jax.tree.map(
        lambda ema, old, new: np.testing.assert_allclose(ema, 0.1 * old + 0.9 * new, rtol=1e-5, atol=1e-7),
        after.ema, before.params, after.params,
    )  # fmt: skip


def test_step_is_skipped_and_counted_when_gradient_is_not_finite(functions_of, tiny, make_task, make_data):
    functions = functions_of(make_task(breaks=True))
    batches = make_data(bad_steps=(1, 2)).batches(0)
    state, _ = functions.train(functions.initialize(), tiny["frozen"], next(batches))
    before, counts = host(state), []
    for _ in range(2):
        state, metrics = functions.train(state, tiny["frozen"], next(batches))
        counts.append((int(state.skipped), int(state.skipped_in_a_row)))
        assert np.isfinite(metrics["loss"]) and not np.isfinite(metrics["grad_norm"])
    after = host(state)
    for name in ("params", "ema", "opt_state"):
        jax.tree.map(np.testing.assert_array_equal, getattr(before, name), getattr(after, name))
    assert counts == [(1, 1), (2, 2)] and after.step == 3

    state, metrics = functions.train(state, tiny["frozen"], next(batches))
    assert (int(state.skipped), int(state.skipped_in_a_row)) == (2, 0)
    assert np.any(np.array(state.params["out"]["kernel"]) != after.params["out"]["kernel"])
    # The schedule counts updates, of which there are two, not steps. The warm-up takes 3 updates and the peak is 3e-3.
    assert float(metrics["learning_rate"]) == pytest.approx(3e-3 * 2 / 3)


def test_step_is_skipped_when_loss_is_not_finite(functions_of, tiny):
    functions = functions_of()
    state = functions.initialize()
    before = host(state)
    state, metrics = functions.train(state, {"scale": {"x": np.float32(np.inf)}}, next(tiny["train_data"].batches(0)))
    assert not np.isfinite(metrics["loss"]) and int(state.skipped) == 1
    jax.tree.map(np.testing.assert_array_equal, before.params, host(state).params)


def test_dropout_differs_between_steps(functions_of, tiny):
    functions, batch = functions_of(), next(tiny["train_data"].batches(0))
    losses = []
    for step in (0, 1, 0):
        state = functions.initialize()
        _, metrics = functions.train(state.replace(step=state.step + step), tiny["frozen"], batch)
        losses.append(float(metrics["loss"]))
    assert losses[0] == losses[2] and abs(losses[0] - losses[1]) > 1e-4


def test_train_donates_the_state(functions_of, tiny):
    functions = functions_of()
    state = functions.initialize()
    functions.train(state, tiny["frozen"], next(tiny["train_data"].batches(0)))
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves((state.params, state.ema, state.opt_state)))


def test_initialize_copies_given_parameters(functions_of, tiny):
    functions = functions_of()
    params = jax.tree.map(lambda leaf: leaf + 1.0, functions.initialize().params)
    kept = host(params)
    state = functions.initialize(params)
    jax.tree.map(np.testing.assert_array_equal, kept, host(state.params))
    jax.tree.map(np.testing.assert_array_equal, kept, host(state.ema))
    functions.train(state, tiny["frozen"], next(tiny["train_data"].batches(0)))
    jax.tree.map(np.testing.assert_array_equal, kept, host(params))


def test_evaluation_is_deterministic_and_without_dropout(functions_of, tiny):
    functions = functions_of()
    batch = next(tiny["eval_data"].batches(0))
    state = functions.initialize()
    params = state.ema
    first, second = (float(functions.evaluate(state, tiny["frozen"], batch)["loss"]) for _ in range(2))
    assert first == second
    keys = make_keys(0, "evaluate", 0, batch["row"])
    loss = {train: tiny["task"].loss(params, tiny["frozen"], batch, keys, train=train)[0] for train in (True, False)}
    assert first == pytest.approx(float(loss[False]), abs=1e-6) and abs(first - float(loss[True])) > 1e-4
    other = dict(batch, row=batch["row"] + 1)  # other rows have other noise
    assert abs(float(functions.evaluate(state, tiny["frozen"], other)["loss"]) - first) > 1e-4


def test_preview_has_preview_count_images_or_is_none(functions_of, tiny, make_task):
    batch = next(tiny["eval_data"].batches(0))
    functions = functions_of()
    preview = functions.preview(functions.initialize(), tiny["frozen"], batch)
    np.testing.assert_array_equal(preview, batch["image"][:4])
    assert functions_of(make_task(previews=False)).preview is None


def test_row_keys_depend_on_seed_purpose_and_row_and_layer_keys_on_the_step():
    def data(seed, purpose, step, rows):
        keys = make_keys(seed, purpose, step, np.asarray(rows, np.int32))
        return np.asarray(jax.random.key_data(keys.rows)), np.asarray(jax.random.key_data(keys.layers))

    rows, layers = data(0, "train", 5, [3, 4])
    np.testing.assert_array_equal(data(0, "train", 6, [4, 3])[0], rows[::-1])  # independent of position and step
    assert np.any(data(0, "train", 6, [3, 4])[1] != layers)
    assert np.all(np.any(data(1, "train", 5, [3, 4])[0] != rows, axis=1))
    assert np.all(np.any(data(0, "evaluate", 5, [3, 4])[0] != rows, axis=1))
    assert np.any(rows[0] != rows[1])
