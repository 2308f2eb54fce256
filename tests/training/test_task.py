"""Optional parts of the task interface: variables, `value_and_grad` and the training step."""

import dataclasses
import itertools
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.training.changes import run_spec
from unclip_jax.sharding.mesh import make_mesh
from unclip_jax.sharding.placement import place_batch
from unclip_jax.training import loop
from unclip_jax.training.checkpoint_record import read_record
from unclip_jax.training.checkpoints import Checkpoints, restore_params
from unclip_jax.training.compiled_functions import compile_functions
from unclip_jax.training.task import Aux, as_aux

BATCH = {"x": np.arange(8, dtype=np.float32), "row": np.arange(8, dtype=np.int32)}


@dataclasses.dataclass(frozen=True)
class TrackMean:
    """Loss (w - mean)^2 with the variable `mean`. A step moves all variables halfway to the mean of `x`.

    `codebook` is large enough to be split over devices.
    """

    rows_are_independent: ClassVar[bool] = True

    def init(self, key, batch):
        return {"w": jnp.zeros(())}

    def init_variables(self, key, batch, params):
        return {"mean": params["w"] + 8.0, "codebook": jnp.zeros((64, 64))}

    def loss(self, params, frozen, batch, keys, *, variables, train=True):
        mean = jnp.mean(batch["x"])
        loss = (params["w"] - variables["mean"]) ** 2 + 0.0 * mean
        return loss, Aux({"train": jnp.float32(train)}, jax.tree.map(lambda v: v / 2 + mean / 2, variables))

    def preview(self, params, frozen, batch, keys, *, variables):
        return jnp.full((1, 2, 2, 3), variables["mean"], jnp.uint8)


@dataclasses.dataclass(frozen=True)
class Square:
    """Loss w^2 / 2, whose gradient is w. Its metrics are the step and a random number from its keys."""

    rows_are_independent: ClassVar[bool] = True
    traced: list = dataclasses.field(default_factory=list)

    def init(self, key, batch):
        return {"w": jnp.float32(3.0)}

    def loss(self, params, frozen, batch, keys, *, train=True):
        self.traced.append(train)
        noise = jnp.mean(jax.vmap(jax.random.normal)(keys.rows)) + jax.random.normal(keys.layers)
        return params["w"] ** 2 / 2, {"step": keys.step.astype(jnp.float32), "noise": noise}

    def preview(self, params, frozen, batch, keys):
        return jnp.full((1, 2, 2, 3), keys.step, jnp.uint8)


class SharpnessAware(Square):
    """Takes the gradient at w + 1/2 (Foret et al. 2021, arXiv 2010.01412, Eq. 2, for w > 0)."""

    def value_and_grad(self, params, frozen, batch, keys):
        loss, aux = self.loss(params, frozen, batch, keys)
        gradient = jax.grad(lambda w: self.loss({"w": w}, frozen, batch, keys)[0])(params["w"] + 0.5)
        return (loss, aux), {"w": gradient}


def functions_of(task, mesh=None, **training):
    config = run_spec(**{f"training__{name}": value for name, value in {"global_batch": 8, **training}.items()})
    mesh = mesh or make_mesh(devices=jax.devices()[:1])
    return compile_functions(task, config=config, frozen={}, batch=BATCH, mesh=mesh)


def test_variables_are_initialized_from_parameters():
    functions = functions_of(TrackMean())
    assert float(functions.initialize().variables["mean"]) == 8.0
    assert float(functions.initialize({"w": np.float32(3.0)}).variables["mean"]) == 11.0
    given = functions.initialize({}, {"mean": np.float32(1.0)}).variables
    assert float(given["mean"]) == 1.0 and given["codebook"].shape == (64, 64)


def test_training_starts_from_given_variables(tmp_path):
    class Data:
        def batches(self, start_step):
            return itertools.repeat(BATCH)

    loop.train(
        TrackMean(), config=run_spec(training__steps=1, training__global_batch=8), frozen={}, extras={},
        train_data=Data(), eval_data=None, workdir=tmp_path, mesh=make_mesh(devices=jax.devices()[:1]),
        initial_variables={"mean": np.float32(1.0)}, progress=False,
    )  # fmt: skip
    assert float(restore_params(tmp_path).variables["mean"]) == (1 + 3.5) / 2


def test_variables_pass_through_micro_batches_in_order():
    """The micro-batches are the rows 0, 2, 4, 6 (mean 3) and 1, 3, 5, 7 (mean 4)."""
    for micro_batches, expected in ((1, (8 + 3.5) / 2), (2, ((8 + 3) / 2 + 4) / 2)):
        functions = functions_of(TrackMean(), micro_batches=micro_batches)
        state, metrics = functions.train(functions.initialize(), {}, BATCH)
        assert float(state.variables["mean"]) == expected
        # The first micro-batch receives 8, a second one 5.5.
        assert float(metrics["loss"]) == np.mean([8.0**2, 5.5**2][:micro_batches])


def test_skipped_step_leaves_variables_unchanged():
    functions = functions_of(TrackMean())
    bad = {**BATCH, "x": np.full(8, np.inf, np.float32)}
    state, _ = functions.train(functions.initialize(), {}, bad)
    assert int(state.skipped) == 1 and float(state.variables["mean"]) == 8.0


def test_step_with_variables_that_are_not_finite_is_skipped():
    @dataclasses.dataclass(frozen=True)
    class Overflow(TrackMean):
        def loss(self, params, frozen, batch, keys, *, variables, train=True):
            loss, aux = super().loss(params, frozen, batch, keys, variables=variables, train=train)
            return loss, aux.replace(variables={**variables, "mean": variables["mean"] / 0.0})

    functions = functions_of(Overflow())
    state, metrics = functions.train(functions.initialize(), {}, BATCH)
    assert np.isfinite(metrics["loss"]) and int(state.skipped) == 1 and float(state.variables["mean"]) == 8.0


def test_evaluation_and_preview_receive_variables_and_do_not_change_them():
    functions = functions_of(TrackMean(), micro_batches=2)
    state = functions.initialize({"w": np.float32(-3.0)})  # the mean starts at 5
    for _ in range(2):
        metrics = functions.evaluate(state, {}, BATCH)
        assert (float(metrics["loss"]), float(metrics["train"])) == ((-3.0 - 5.0) ** 2, 0.0)
    np.testing.assert_array_equal(functions.preview(state, {}, BATCH), np.full((1, 2, 2, 3), 5))


def test_variables_are_saved_and_restored(tmp_path):
    functions, checkpoints = functions_of(TrackMean()), Checkpoints(tmp_path, keep=1)
    state, _ = functions.train(functions.initialize(), {}, BATCH)
    checkpoints.save(state, {}, config={}, frozen={})
    checkpoints.wait()
    restored, _ = checkpoints.restore(1, functions.shapes)
    jax.tree.map(np.testing.assert_array_equal, restored, state)
    assert float(restored.variables["mean"]) == 5.75
    np.testing.assert_equal(restore_params(tmp_path).variables, jax.device_get(state.variables))
    with pytest.raises(ValueError, match="does not match the network: .*variables/mean must be absent"):
        checkpoints.restore(1, functions.shapes.replace(variables={}))
    checkpoints.close()


def test_checkpoint_has_no_variables_when_task_has_none(trained):
    arrays = read_record(trained, 12).arrays
    assert set(arrays) == {"state", "ema"}
    names = arrays["state"]
    assert {name.split("/")[0] for name in names} == {"step", "params", "opt_state", "skipped", "skipped_in_a_row"}


def test_variables_are_kept_when_loss_returns_only_metrics():
    aux = as_aux({"a": 1.0}, {"mean": 2.0})
    assert aux.metrics == {"a": 1.0} and aux.variables == {"mean": 2.0}


@pytest.mark.parametrize("other", [{}, {"mean": jnp.zeros(3)}, {"mean": jnp.zeros(2, jnp.int32)}])
def test_variables_of_another_structure_shape_or_type_are_rejected(other):
    with pytest.raises(ValueError, match="variables must keep their structure, shapes and types"):
        as_aux(Aux({}, other), {"mean": jnp.zeros(2)})


@pytest.mark.parametrize("micro_batches", [1, 2])
@pytest.mark.parametrize("task, norm", [(Square, 3.0), (SharpnessAware, 3.5)])
def test_value_and_grad_of_task_replaces_gradient_of_loss(task, norm, micro_batches):
    functions = functions_of(task(), micro_batches=micro_batches)
    _, metrics = functions.train(functions.initialize(), {}, BATCH)
    assert (float(metrics["loss"]), float(metrics["grad_norm"])) == (4.5, norm)


def test_keys_contain_step_without_recompilation():
    task = Square()
    functions = functions_of(task, micro_batches=2)
    state = functions.initialize()
    noise = [float(functions.evaluate(state, {}, BATCH)["noise"])]
    for step in range(3):
        state, metrics = functions.train(state, {}, BATCH)
        assert float(metrics["step"]) == step
        if step == 0:
            count = len(task.traced)
    assert len(task.traced) == count
    evaluated = functions.evaluate(state, {}, BATCH)
    assert float(evaluated["step"]) == 3
    assert [float(evaluated["noise"])] == noise
    np.testing.assert_array_equal(functions.preview(state, {}, BATCH), np.full((1, 2, 2, 3), 3))


@pytest.mark.usefixtures("compiled_anew")
def test_variables_on_eight_devices_use_the_whole_batch():
    mesh = make_mesh(data=4, fsdp=2)
    functions = functions_of(TrackMean(), mesh)
    state, _ = functions.train(functions.initialize(), {}, place_batch(BATCH, mesh))
    np.testing.assert_array_equal(state.variables["mean"], 5.75)
    np.testing.assert_array_equal(state.variables["codebook"], np.full((64, 64), 1.75))
    assert {shard.data.shape for shard in state.variables["codebook"].addressable_shards} == {(64, 32)}
