"""Interface of a training task: initial parameters, loss and previews."""

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
    """Random keys and the training step for one call of a task.

    Attributes:
      rows: One key per row, derived from the seed and the global index of the row. It does not depend on the number of
        devices.
      layers: Key for randomness that is not specific to a row, such as dropout, derived from the seed, the step and the
        micro-batch.
      step: Number of training steps before this one, int32, for example for an annealed temperature. It is traced and
        equal in all micro-batches. In evaluation and previews it is the number of steps trained so far, while `rows`
        and `layers` are the same in every call.
    """

    rows: Key["B"]
    layers: Key[""]
    step: Int[""]


@struct.dataclass
class Aux:
    """Auxiliary results of a loss.

    Attributes:
      metrics: Scalars to log.
      variables: Updated variables of the task.
    """

    metrics: Metrics
    variables: PyTree = struct.field(default_factory=dict)


class Task(Protocol):
    """Training task of a stage.

    Batches are dicts of arrays whose first axis is the rows. Their field `row` contains the global index of each row.
    Frozen parameters are arguments, not constants of the compiled step.

    A task may also define:

      `init_variables(key, batch, params) -> dict`: Returns initial variables. Variables are state that is neither
        trained nor averaged, such as the codebook of a vector quantizer. They are saved in every checkpoint and sharded
        like parameters. A run whose `config.training.init_from` is a workdir starts from its variables. They are not
        packaged with the stage. Only shapes and types of the batch matter.
        `loss`, `value_and_grad` and `preview` of such a task have the keyword argument `variables`, and `loss` returns
        `Aux(metrics, variables)` with the updated variables. Each micro-batch receives the variables of the previous
        one. Skipped steps and evaluation do not change them. Arrays in a compiled step are global. A mean over the rows
        is therefore the mean over the rows of all devices, and variables computed from it need no further reduction.
      `value_and_grad`: Replaces `jax.value_and_grad(loss, has_aux=True)`, for example for sharpness-aware minimization.
        It has the arguments of `loss` and returns ((loss, aux), gradient).

    Attributes:
      rows_are_independent: Whether the loss of a batch is the mean of independent losses of its rows. If False, the
        task implements `config.training.micro_batches` itself.
      auxiliary: Top-level names of parameters that are trained with the network but are not part of it, such as a
        linear probe. They are not packaged with the stage. If missing, there are none.
    """

    rows_are_independent: bool
    auxiliary: tuple[str, ...] = ()

    def init(self, key: Key[""], batch: PyTree) -> PyTree:
        """Returns the initial parameters, a nested dict. Only the shapes and types of the batch are used."""

    def loss(
        self, params: PyTree, frozen: PyTree, batch: PyTree, keys: Keys, *, train: bool = True
    ) -> tuple[Float[""], Metrics | Aux]:
        """Returns the mean loss over the rows of the batch, and scalars to log.

        Args:
          params: The parameters.
          frozen: {name: tree} of the frozen parameters.
          batch: The batch.
          keys: Random keys.
          train: Whether to use randomness such as dropout. False in evaluation.
        """

    def preview(self, params: PyTree, frozen: PyTree, batch: PyTree, keys: Keys) -> UInt8["N H W 3"] | None:
        """Returns sample images for the rows of a batch, or None if the task has no previews."""


def make_keys(seed: int, purpose: str, step: Int[""], row: Int["B"], micro_batch: Int[""] | int = 0) -> Keys:
    """Returns the keys of a micro-batch.

    Args:
      seed: Random seed of the run.
      purpose: "train", "evaluate" or "preview". Different purposes have independent keys.
      step: Training step.
      row: Global index of each row.
      micro_batch: Index of the micro-batch.
    """
    base = rng.named(jax.random.key(seed), purpose)
    layers = jax.random.fold_in(jax.random.fold_in(rng.named(base, "layers"), step), micro_batch)
    return Keys(rows=rng.rows(rng.named(base, "rows"), row), layers=layers, step=jnp.asarray(step, jnp.int32))


def initial_variables(task: Task, key: Key[""], batch: PyTree, params: PyTree) -> PyTree:
    """Returns the initial variables of a task, or {} if it has none."""
    return task.init_variables(key, batch, params) if hasattr(task, "init_variables") else {}


def pass_variables(variables: PyTree) -> dict[str, Any]:
    """Returns the keyword argument that passes variables to a task, or {} if there are no variables."""
    return {"variables": variables} if variables else {}


def value_and_grad(task: Task) -> Callable[..., tuple[tuple[Float[""], Metrics | Aux], PyTree]]:
    """Returns `task.value_and_grad` if it is defined, otherwise that of the loss."""
    return getattr(task, "value_and_grad", None) or jax.value_and_grad(task.loss, has_aux=True)


def as_aux(result: Metrics | Aux, variables: PyTree) -> Aux:
    """Returns the auxiliary result of a loss as `Aux`.

    Args:
      result: The auxiliary result. A loss that returns only metrics leaves the variables unchanged.
      variables: Variables that the loss received.

    Raises:
      ValueError: If the structure, the shapes or the types of the variables have changed.
    """
    aux = result if isinstance(result, Aux) else Aux(result, variables)
    before, after = _shapes(variables), _shapes(aux.variables)
    if before != after:
        raise ValueError(f"variables must keep their structure, shapes and types, {before}, got {after}.")
    return aux


def _shapes(tree: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf)), tree)
