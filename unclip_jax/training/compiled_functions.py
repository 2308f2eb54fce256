"""Compiled functions of a run: initialization, training step, evaluation and preview.

Each function is one `jax.jit` with explicit shardings, so that the same code runs on one CPU and on a pod. The state is
created on its devices and donated to every training step. The frozen parameters are an argument, not a constant.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from unclip_jax import rng
from unclip_jax.arrays import Float, Int, PyTree
from unclip_jax.sharding import rules
from unclip_jax.training import ema
from unclip_jax.training.accumulation import mean_over_micro_batches
from unclip_jax.training.optimizer import learning_rate, make_optimizer
from unclip_jax.training.spec import RunConfig
from unclip_jax.training.state import TrainState, initial_state
from unclip_jax.training.task import Task, as_aux, initial_variables, make_keys, pass_variables, value_and_grad


@dataclasses.dataclass(frozen=True)
class CompiledFunctions:
    """Functions of a run. Each one is compiled when it is first called.

    Attributes:
      shapes: The state as ShapeDtypeStructs with shardings, for restoring a checkpoint.
      frozen_shardings: Shardings of the frozen parameters.
      initialize: (params, variables) -> state. The task initializes the top-level entries that are not passed.
      train: (state, frozen, batch) -> state, metrics. The state is donated.
      evaluate: (state, frozen, batch) -> metrics of the EMA parameters. All calls use the same random numbers.
      preview: (state, frozen, batch) -> uint8 images. If None, the task has no previews.
    """

    shapes: TrainState
    frozen_shardings: PyTree
    initialize: Callable[..., TrainState]
    train: Callable[..., tuple[TrainState, dict[str, Float[""]]]]
    evaluate: Callable[..., dict[str, Float[""]]]
    preview: Callable[..., Any] | None


def compile_functions(
    task: Task, *, config: RunConfig, frozen: PyTree, batch: dict[str, np.ndarray], mesh: Mesh
) -> CompiledFunctions:
    """Builds the functions of a run.

    Args:
      task: The training task.
      config: Settings of the run.
      frozen: Frozen parameters. Only their shapes and types are used.
      batch: A batch. Only its shapes and types are used.
      mesh: Mesh of the devices.
    """
    optimizer = make_optimizer(config.optimizer, config.training.steps)
    # One row is enough to initialize parameters. It is zero because each process has different rows.
    example = {name: np.zeros((1, *rows.shape[1:]), rows.dtype) for name, rows in batch.items()}
    initialize = _initialize(task, optimizer, config, example)
    preview = _preview(task, config)

    shapes = jax.eval_shape(initialize)
    state_shardings, frozen_shardings = rules.shardings(shapes, mesh), rules.shardings(frozen, mesh)
    replicated = rules.replicated(mesh)
    inputs = (state_shardings, frozen_shardings, rules.batch(mesh))
    has_preview = jax.eval_shape(preview, shapes, frozen, batch) is not None
    return CompiledFunctions(
        shapes=jax.tree.map(
            lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
            shapes,
            state_shardings,
        ),
        frozen_shardings=frozen_shardings,
        initialize=jax.jit(initialize, out_shardings=state_shardings),
        train=jax.jit(
            _train(task, optimizer, config),
            in_shardings=inputs,
            out_shardings=(state_shardings, replicated),
            donate_argnums=0,
        ),
        evaluate=jax.jit(_evaluate(task, config), in_shardings=inputs, out_shardings=replicated),
        preview=jax.jit(preview, in_shardings=inputs, out_shardings=replicated) if has_preview else None,
    )


def num_micro_batches(task: Task, config: RunConfig) -> int:
    """Returns the number of micro-batches per step.

    It is 1 for tasks whose loss couples the rows of a batch. Such tasks split the batch themselves.
    """
    return config.training.micro_batches if task.rows_are_independent else 1


def _initialize(task: Task, optimizer: optax.GradientTransformation, config: RunConfig, example: PyTree) -> Callable:
    def initialize(params: PyTree | None = None, variables: PyTree | None = None) -> TrainState:
        key = jax.random.key(config.training.seed)
        params = {**task.init(rng.named(key, "init"), example), **(params or {})}
        given = variables or {}
        variables = {**initial_variables(task, rng.named(key, "init_variables"), example, params), **given}
        return initial_state(params, variables, optimizer)

    return initialize


def _train(task: Task, optimizer: optax.GradientTransformation, config: RunConfig) -> Callable:
    """Returns the training step.

    If the loss, the gradient or a variable is not finite, or if the global norm of the gradient exceeds
    `config.optimizer.skip_norm`, the step leaves parameters, averages, optimizer state and variables unchanged.
    """
    rate = learning_rate(config.optimizer, config.training.steps)
    max_norm = jnp.finfo(jnp.float32).max if config.optimizer.skip_norm is None else config.optimizer.skip_norm
    loss_and_gradient = value_and_grad(task)

    def train(state: TrainState, frozen: PyTree, batch: PyTree) -> tuple[TrainState, dict[str, jax.Array]]:
        def gradient_of(rows: PyTree, index: Int[""], variables: PyTree) -> tuple[PyTree, PyTree]:
            keys = make_keys(config.training.seed, "train", state.step, rows["row"], index)
            (loss, aux), gradient = loss_and_gradient(state.params, frozen, rows, keys, **pass_variables(variables))
            aux = as_aux(aux, variables)
            return (loss, aux.metrics, gradient), aux.variables

        (loss, metrics, gradient), variables = mean_over_micro_batches(
            gradient_of, batch, num_micro_batches(task, config), state.variables
        )
        norm = optax.tree.norm(gradient)
        good = jnp.isfinite(loss) & (norm <= max_norm)
        for leaf in jax.tree.leaves(variables):
            good &= jnp.all(jnp.isfinite(leaf))

        updates_done = state.step - state.skipped
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        average = ema.update(state.ema, params, ema.decay(updates_done, config.training.ema_decay))

        def keep_if_bad(new: PyTree, old: PyTree) -> PyTree:
            return jax.tree.map(lambda a, b: jnp.where(good, a, b), new, old)

        state = TrainState(
            step=state.step + 1,
            params=keep_if_bad(params, state.params),
            ema=keep_if_bad(average, state.ema),
            opt_state=keep_if_bad(opt_state, state.opt_state),
            skipped=state.skipped + jnp.where(good, 0, 1),
            skipped_in_a_row=jnp.where(good, 0, state.skipped_in_a_row + 1),
            variables=keep_if_bad(variables, state.variables),
        )
        return state, {
            **metrics,
            "loss": loss,
            "grad_norm": norm,
            "learning_rate": rate(updates_done),
            "skipped": state.skipped,
            "skipped_in_a_row": state.skipped_in_a_row,
        }

    return train


def _evaluate(task: Task, config: RunConfig) -> Callable:
    def evaluate(state: TrainState, frozen: PyTree, batch: PyTree) -> dict[str, jax.Array]:
        def metrics_of(rows: PyTree, index: Int[""], variables: PyTree) -> tuple[dict[str, jax.Array], PyTree]:
            keys = make_keys(config.training.seed, "evaluate", 0, rows["row"], index).replace(step=state.step)
            loss, aux = task.loss(state.ema, frozen, rows, keys, **pass_variables(variables), train=False)
            return {"loss": loss, **as_aux(aux, variables).metrics}, variables

        metrics, _ = mean_over_micro_batches(metrics_of, batch, num_micro_batches(task, config), state.variables)
        return metrics

    return evaluate


def _preview(task: Task, config: RunConfig) -> Callable:
    def preview(state: TrainState, frozen: PyTree, batch: PyTree) -> jax.Array | None:
        rows = jax.tree.map(lambda rows: rows[: config.training.preview_count], batch)
        keys = make_keys(config.training.seed, "preview", 0, rows["row"]).replace(step=state.step)
        return task.preview(state.ema, frozen, rows, keys, **pass_variables(state.variables))

    return preview
