"""Sampling loop and the protocol of a sampler.

A sampler takes one step, from x_t to x_next, and `sample` scans it over the pairs of a path. A path can be split into
segments of equal length (`timesteps.segments`), each of which continues from the state after the previous one. One
compiled program can therefore run any number of steps.
"""

from collections.abc import Callable
from typing import Protocol

import jax
import jax.numpy as jnp
from flax import struct

from unclip_jax import rng
from unclip_jax.arrays import Float, Int, Key, PyTree
from unclip_jax.diffusion.denoiser import Denoiser
from unclip_jax.diffusion.prediction import Prediction

Noise = Callable[[Int[""], Int[""], Int[""]], Float["B ..."]]
"""(draw, t, t_next) -> standard normal noise of x's shape. Draw 0 is x_T, draw n > 0 is for the n-th actual step."""


@struct.dataclass
class SamplerState:
    """State of a sampler between two steps.

    Attributes:
      x: x_t, float32.
      x0: The latest prediction of the clean sample that the sampler used, float32. It includes guidance, clipping and,
        in samplers that absorb it, the gradient. It is zero before the first step.
      draws: Number of steps taken so far, int32. Steps without effect are not counted.
      history: Further values that a multistep sampler keeps from earlier steps. If None, there are none.
    """

    x: Float["B ..."]
    x0: Float["B ..."]
    draws: Int[""]
    history: PyTree = None


class Sampler(Protocol):
    """Protocol of a sampler.

    Samplers are pytrees, so that their schedule and numbers can be traced.
    """

    def init(self, x: Float["B ..."]) -> SamplerState:
        """Returns the state before the first step, at x_T."""

    def step(self, denoiser: Denoiser, state: SamplerState, t: Int[""], t_next: Int[""], noise: Noise) -> SamplerState:
        """Takes one step from t to a different step t_next, with noise(state.draws + 1, t, t_next) if needed."""


def sample(sampler: Sampler, denoiser: Denoiser, state: SamplerState, path: Int["N+1"], noise: Noise) -> SamplerState:
    """Runs a sampler along a path.

    Args:
      sampler: The sampler.
      denoiser: The model, including guidance and thresholding.
      state: The state at the first entry of the path.
      path: Steps to visit, where -1 is clean. It may be a segment of a longer path, may ascend (inversion starts at 0),
        and may be traced. If two adjacent entries are equal, the state does not change and the network does not run.
      noise: Source of noise.
    """
    path = jnp.asarray(path, jnp.int32)

    def one_step(state: SamplerState, pair: tuple[Int[""], Int[""]]) -> tuple[SamplerState, None]:
        t, t_next = pair
        state = jax.lax.cond(
            t == t_next,
            lambda state: state,
            lambda state: sampler.step(denoiser, state, t, t_next, noise),
            state,
        )
        return state, None

    state, _ = jax.lax.scan(one_step, state, (path[:-1], path[1:]))
    return state


def start(x: Float["B ..."]) -> SamplerState:
    """Returns the state of a sampler without history before its first step."""
    x = jnp.asarray(x, jnp.float32)
    return SamplerState(x=x, x0=jnp.zeros_like(x), draws=jnp.zeros((), jnp.int32))


def initial(sampler: Sampler, noise: Noise, t: Int[""]) -> SamplerState:
    """Returns the state at the start of a path, with draw 0 of the noise as x_T.

    Args:
      sampler: The sampler.
      noise: Source of noise.
      t: First step of the path.
    """
    t = jnp.asarray(t, jnp.int32)
    return sampler.init(noise(jnp.zeros((), jnp.int32), t, t))


def row_noise(keys: Key["B"], shape: tuple[int, ...]) -> Noise:
    """Returns a source of noise that depends only on the key of a row and the index of the draw.

    The noise of a row therefore does not depend on the batch. Different segments, or repeated visits of a step, never
    share noise.

    Args:
      keys: One key per row.
      shape: Shape of one row.
    """

    def noise(draw: Int[""], t: Int[""], t_next: Int[""]) -> Float["B ..."]:
        return rng.normal_rows(jax.vmap(lambda key: jax.random.fold_in(key, draw))(keys), shape)

    return noise


def predict(denoiser: Denoiser, x: Float["B ..."], t: Int[""]) -> Prediction:
    """Evaluates the denoiser for rows that are all at step t, with x0 in float32."""
    prediction = denoiser(x, jnp.full(x.shape[0], t, jnp.int32))
    return prediction.replace(x0=prediction.x0.astype(jnp.float32))
