"""The training state."""

import jax.numpy as jnp
import optax
from flax import struct

from unclip_jax.arrays import Int, PyTree


@struct.dataclass
class TrainState:
    """Everything that a checkpoint must restore. The rest of a run follows from its config.

    Attributes:
      step: Number of batches consumed, int32. It is the position in the data.
      params: The trained parameters.
      ema: Their moving average, used for evaluation and sampling.
      opt_state: State of the optimizer.
      skipped: Number of skipped steps, int32: their loss or gradient was not finite, or the gradient was too long.
      skipped_in_a_row: Number of skipped steps since the last one that was not, int32.
      variables: State of the task that is neither trained nor averaged, see `task.Task`; {} for most tasks.
    """

    step: Int[""]
    params: PyTree
    ema: PyTree
    opt_state: PyTree
    skipped: Int[""]
    skipped_in_a_row: Int[""]
    variables: PyTree = struct.field(default_factory=dict)


def initial_state(params: PyTree, variables: PyTree, optimizer: optax.GradientTransformation) -> TrainState:
    """Returns the state before the first step. The average starts at the parameters themselves.

    Call it under `jax.jit`, which returns new buffers: the state is donated from step to step, so none of its arrays
    may share a buffer with another or with the caller's.
    """
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        ema=params,
        opt_state=optimizer.init(params),
        skipped=jnp.zeros((), jnp.int32),
        skipped_in_a_row=jnp.zeros((), jnp.int32),
        variables=variables,
    )
