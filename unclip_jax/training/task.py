"""The interface of a task: initial parameters, a loss and previews."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from flax import struct

from unclip_jax import rng
from unclip_jax.arrays import Float, Int, Key, PyTree, UInt8

Metrics = Mapping[str, Float[""]]


@struct.dataclass
class Keys:
    """Randomness and position of one call of a task.

    Attributes:
      rows: "B", one key per row, from the seed and the row's global index: the same on any number of devices.
      layers: Key for randomness that belongs to no row, such as dropout, from the seed, step and micro-batch.
      step: Number of training steps before this one, int32, such as for an annealed temperature. It is traced and the
        same in all micro-batches. In evaluation and previews it is the number of steps trained so far, while `rows` and
        `layers` repeat themselves.
    """

    rows: Key["B"]
    layers: Key[""]
    step: Int[""]


@struct.dataclass
class Aux:
    """The second result of a loss.

    Attributes:
      metrics: Scalars to log.
      variables: The task's new variables.
    """

    metrics: Metrics
    variables: PyTree = struct.field(default_factory=dict)


class Task(Protocol):
    """What a stage learns. Batches are dicts whose first axis is rows; `row` holds each row's global index.

    Frozen parameters are arguments, never constants of the compiled step.

    A task may also define:

      `init_variables(key, batch, params) -> dict`: Initial variables, state that is neither trained nor averaged, such
        as the codebook of a vector quantizer. Only shapes and types of the batch matter. Variables are part of every
        checkpoint and are split over devices like parameters. A run whose `config.training.init_from` is a workdir
        starts from its variables. They are not packaged.
        `loss`, `value_and_grad` and `preview` of such a task have the keyword argument `variables`, and `loss` returns
        `Aux(metrics, variables)` with the next ones. Micro-batches pass them on in order. A skipped step leaves them
        unchanged, and so does evaluation. Arrays in a compiled step are global: a mean over the rows is the mean over
        the rows of all devices, so variables computed from it need no further reduction.
      `value_and_grad`: Replaces `jax.value_and_grad(loss, has_aux=True)`, such as for sharpness-aware minimization. It
        has the arguments of `loss` and returns ((loss, aux), gradient).

    Attributes:
      rows_are_independent: Whether the loss of a batch is the mean of the losses of its rows, each computed alone. If
        not, the task implements `config.training.micro_batches` itself.
      auxiliary: Top-level names of parameters that are trained with the network but are not part of it, such as a
        linear probe. They stay in the workdir when the stage is packaged. If missing, there are none.
    """

    rows_are_independent: bool
    auxiliary: tuple[str, ...] = ()

    def init(self, key: Key[""], batch: PyTree) -> PyTree:
        """Returns the parameters, a nested dict. Only shapes and types of the batch matter."""

    def loss(
        self, params: PyTree, frozen: PyTree, batch: PyTree, keys: Keys, *, train: bool = True
    ) -> tuple[Float[""], Metrics | Aux]:
        """Returns the mean loss over the rows of the batch, and scalars to log."""

    def preview(self, params: PyTree, frozen: PyTree, batch: PyTree, keys: Keys) -> UInt8["N H W 3"] | None:
        """Returns images generated for the rows of a batch. If None, the task has no previews."""


def make_keys(seed: int, purpose: str, step: Int[""], row: Int["B"], micro_batch: Int[""] | int = 0) -> Keys:
    """Returns the keys of a micro-batch. `purpose` keeps training, evaluation and previews independent."""
    base = rng.named(jax.random.key(seed), purpose)
    layers = jax.random.fold_in(jax.random.fold_in(rng.named(base, "layers"), step), micro_batch)
    return Keys(rows=rng.rows(rng.named(base, "rows"), row), layers=layers, step=jnp.asarray(step, jnp.int32))


def initial_variables(task: Task, key: Key[""], batch: PyTree, params: PyTree) -> PyTree:
    """Returns the initial variables of a task, {} if it has none."""
    return task.init_variables(key, batch, params) if hasattr(task, "init_variables") else {}


def pass_variables(variables: PyTree) -> dict[str, Any]:
    """Returns the keyword argument by which a task receives its variables, none if it has none."""
    return {"variables": variables} if variables else {}


def value_and_grad(task: Task) -> Callable[..., tuple[tuple[Float[""], Metrics | Aux], PyTree]]:
    """Returns the task's own `value_and_grad`, or that of its loss."""
    return getattr(task, "value_and_grad", None) or jax.value_and_grad(task.loss, has_aux=True)


def as_aux(result: Metrics | Aux, variables: PyTree) -> Aux:
    """Returns the second result of a loss as `Aux`. A loss that returns only metrics leaves the variables unchanged.

    Raises:
      ValueError: If the structure, a shape or a type of the variables has changed.
    """
    aux = result if isinstance(result, Aux) else Aux(result, variables)
    before, after = _shapes(variables), _shapes(aux.variables)
    if before != after:
        raise ValueError(f"variables must keep their structure, shapes and types, {before}, got {after}.")
    return aux


def _shapes(tree: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf)), tree)
