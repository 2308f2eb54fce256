"""All that training changes, and all that is needed to go on from it."""

import jax.numpy as jnp
import optax
from flax import struct

from unclip_jax.arrays import Int, PyTree


@struct.dataclass
class TrainState:
    """One pytree; everything else of a run follows from its config.

    Args:
      step: int32, batches consumed; the position in the data.
      params: the parameters that are trained.
      ema: their moving average, the ones to sample with.
      opt_state: the optimizer's.
      skipped: int32, steps whose loss or gradient was not finite, and that changed nothing.
      skipped_in_a_row: int32, how many of them since the last good step.
    """

    step: Int[""]
    params: PyTree
    ema: PyTree
    opt_state: PyTree
    skipped: Int[""]
    skipped_in_a_row: Int[""]


def initial_state(params: PyTree, optimizer: optax.GradientTransformation) -> TrainState:
    """The state before the first step. The average starts at the parameters themselves.

    To be called under `jax.jit`, whose results are buffers of their own: the state is donated from step to step, and
    may share none within itself or with its caller.
    """
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        ema=params,
        opt_state=optimizer.init(params),
        skipped=jnp.zeros((), jnp.int32),
        skipped_in_a_row=jnp.zeros((), jnp.int32),
    )
