"""The compiled functions of a run: initial state, training step, validation and preview.

Each is one `jax.jit` with its shardings given, so that the same code runs on one CPU and on a pod. The state is born
on its devices and donated from step to step; the frozen parameters are an argument.
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
from unclip_jax.training.accumulation import mean_over_parts
from unclip_jax.training.optimizer import learning_rate, make_optimizer
from unclip_jax.training.spec import RunConfig
from unclip_jax.training.state import TrainState, initial_state
from unclip_jax.training.task import Task, make_keys


@dataclasses.dataclass(frozen=True)
class Steps:
    """What `make_steps` compiles, lazily, at the first call of each.

    Args:
      shapes: the state as ShapeDtypeStructs with their shardings; what a checkpoint is restored onto.
      frozen_shardings: where the frozen parameters are to be placed.
      init: () -> state.
      init_from: params -> state, around parameters from elsewhere. What a task has beside its network may be missing.
      train: (state, frozen, batch) -> state, metrics. The state handed in is gone afterwards.
      evaluate: (params, frozen, batch) -> metrics, with the validation's own keys, the same at every call.
      preview: (params, frozen, batch) -> uint8 pictures. None where the task makes none.
    """

    shapes: TrainState
    frozen_shardings: PyTree
    init: Callable[[], TrainState]
    init_from: Callable[[PyTree], TrainState]
    train: Callable[..., tuple[TrainState, dict[str, Float[""]]]]
    evaluate: Callable[..., dict[str, Float[""]]]
    preview: Callable[..., Any] | None


def make_steps(task: Task, *, config: RunConfig, frozen: PyTree, batch: dict[str, np.ndarray], mesh: Mesh) -> Steps:
    """The functions of a run over `mesh`. Of `frozen` and `batch` (host arrays) only shapes and types are read."""
    training = config.training
    optimizer = make_optimizer(config.optimizer, training.steps)
    # Initial parameters need no more than one row; zeros, as every process holds other rows.
    example = {name: np.zeros((1, *rows.shape[1:]), rows.dtype) for name, rows in batch.items()}

    def fresh() -> PyTree:
        return task.init(rng.named(jax.random.key(training.seed), "init"), example)

    def init() -> TrainState:
        return initial_state(fresh(), optimizer)

    def init_from(params: PyTree) -> TrainState:
        return initial_state({**fresh(), **params}, optimizer)

    shapes = jax.eval_shape(init)
    state_at, frozen_at = rules.shardings(shapes, mesh), rules.shardings(frozen, mesh)
    rows_at, everywhere = rules.batch(mesh), rules.replicated(mesh)
    inputs = (state_at.ema, frozen_at, rows_at)

    def evaluate(params: PyTree, frozen: PyTree, batch: PyTree) -> dict[str, jax.Array]:
        def loss(part: PyTree, number: Int[""]) -> dict[str, jax.Array]:
            keys = make_keys(training.seed, "evaluate", 0, part["row"], number)
            value, metrics = task.loss(params, frozen, part, keys, train=False)
            return {"loss": value, **metrics}

        return mean_over_parts(loss, batch, parts_of(task, config))

    def preview(params: PyTree, frozen: PyTree, batch: PyTree):
        some = jax.tree.map(lambda rows: rows[: training.preview_count], batch)
        return task.preview(params, frozen, some, make_keys(training.seed, "preview", 0, some["row"]))

    return Steps(
        shapes=jax.tree.map(
            lambda leaf, at: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=at), shapes, state_at
        ),
        frozen_shardings=frozen_at,
        init=jax.jit(init, out_shardings=state_at),
        init_from=jax.jit(init_from, out_shardings=state_at),
        train=jax.jit(
            train_step(task, optimizer, config),
            in_shardings=(state_at, frozen_at, rows_at),
            out_shardings=(state_at, everywhere),
            donate_argnums=0,
        ),
        evaluate=jax.jit(evaluate, in_shardings=inputs, out_shardings=everywhere),
        preview=None
        if jax.eval_shape(preview, shapes.ema, frozen, batch) is None
        else jax.jit(preview, in_shardings=inputs, out_shardings=everywhere),
    )


def train_step(task: Task, optimizer: optax.GradientTransformation, config: RunConfig) -> Callable:
    """(state, frozen, batch) -> state, metrics: one update, or none where the loss is not finite, or the gradient is
    not or is longer than `skip_norm`."""
    rate = learning_rate(config.optimizer, config.training.steps)
    longest = jnp.finfo(jnp.float32).max if config.optimizer.skip_norm is None else config.optimizer.skip_norm
    loss_and_gradient = jax.value_and_grad(task.loss, has_aux=True)

    def step(state: TrainState, frozen: PyTree, batch: PyTree) -> tuple[TrainState, dict[str, jax.Array]]:
        def of_part(part: PyTree, number: Int[""]):
            keys = make_keys(config.training.seed, "train", state.step, part["row"], number)
            return loss_and_gradient(state.params, frozen, part, keys)

        (loss, metrics), gradient = mean_over_parts(of_part, batch, parts_of(task, config))
        norm = optax.tree.norm(gradient)
        good = jnp.isfinite(loss) & (norm <= longest)

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
        )
        return state, {
            **metrics,
            "loss": loss,
            "grad_norm": norm,
            "learning_rate": rate(updates_done),
            "skipped": state.skipped,
            "skipped_in_a_row": state.skipped_in_a_row,
        }

    return step


def parts_of(task: Task, config: RunConfig) -> int:
    """Into how many micro-batches the step splits a batch. A task whose rows need each other does so by itself."""
    return config.training.micro_batches if task.rows_are_independent else 1
