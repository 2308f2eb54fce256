"""Training state: everything needed to resume a run."""

import jax.numpy as jnp
import optax
from flax import struct

from unclip_jax.arrays import Int, PyTree


@struct.dataclass
class TrainState:
    """State of a run. The rest of a run follows from its config.

    Attributes:
      step: Number of batches consumed, int32. It is the position in the data.
      params: Trained parameters.
      ema: Moving average of the parameters, used for evaluation and sampling.
      opt_state: Optimizer state.
      skipped: Number of skipped steps, int32. A step is skipped if the loss, the gradient or a variable is not finite,
        or if the norm of the gradient exceeds `skip_norm`.
      skipped_in_a_row: Number of skipped steps since the last step that was not skipped, int32.
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
    """Returns the state before the first step. The average is initialized with the parameters.

    Call it under `jax.jit`, which returns new buffers. The state is donated to every step, so its arrays must not share
    buffers with each other or with the arguments.
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
