"""The one loop that every sampler runs in, and the protocol of a sampler.

A sampler makes one step, from x_t to x_next; `sample` scans it over the pairs of a path. Paths have any length and may
be cut into segments of one length (`timesteps.segments`), each sampled from the state that the last one left, so that
one compiled program serves every number of steps.
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
"""(draw, t, t_next) -> standard normal noise of x's shape. Draw 0 is x_T, draw n that of the n-th step really taken."""


@struct.dataclass
class SamplerState:
    """State of a sampler between two steps.

    Attributes:
      x: x_t, float32.
      x0: The last prediction of the clean sample, float32: what the sampler used, after guidance, clipping and, in
        samplers that absorb it, the gradient. Zeros before the first step.
      draws: Number of steps taken so far, int32. Steps that do nothing do not count.
      history: What else a multistep sampler remembers of earlier steps. If None, nothing.
    """

    x: Float["B ..."]
    x0: Float["B ..."]
    draws: Int[""]
    history: PyTree = None


class Sampler(Protocol):
    """One way of going from x_t to x_next. A pytree, so that its schedule and numbers may be traced."""

    def init(self, x: Float["B ..."]) -> SamplerState:
        """The state before the first step, at x_T."""

    def step(self, denoiser: Denoiser, state: SamplerState, t: Int[""], t_next: Int[""], noise: Noise) -> SamplerState:
        """One step from t to another step t_next, with noise(state.draws + 1, t, t_next) where it needs any."""


def sample(
    sampler: Sampler, denoiser: Denoiser, state: SamplerState, path: Int["N+1"], noise: Noise
) -> SamplerState:
    """Steps along `path`, int32 [N+1], from its first entry to its last; -1 is clean. The path may be traced.

    It may be a segment of a longer path, and it may ascend (DDIM inversion starts at 0). Where two neighbours are equal
    the whole state stays as it is and no network runs.
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
    """The state of a sampler without history before its first step."""
    x = jnp.asarray(x, jnp.float32)
    return SamplerState(x=x, x0=jnp.zeros_like(x), draws=jnp.zeros((), jnp.int32))


def initial(sampler: Sampler, noise: Noise, t: Int[""]) -> SamplerState:
    """The state at the start t of a path, with draw 0 as x_T."""
    t = jnp.asarray(t, jnp.int32)
    return sampler.init(noise(jnp.zeros((), jnp.int32), t, t))


def row_noise(keys: Key["B"], shape: tuple[int, ...]) -> Noise:
    """Noise of `shape` for each row, from the row's key folded with the number of the draw.

    So a row's noise does not depend on the batch around it, and no two segments or visits of a step share any.
    """

    def noise(draw: Int[""], t: Int[""], t_next: Int[""]) -> Float["B ..."]:
        return rng.normal_rows(jax.vmap(lambda key: jax.random.fold_in(key, draw))(keys), shape)

    return noise


def predict(denoiser: Denoiser, x: Float["B ..."], t: Int[""]) -> Prediction:
    """Returns the denoiser's prediction for rows that are all at step t, with x0 in float32."""
    prediction = denoiser(x, jnp.full(x.shape[0], t, jnp.int32))
    return prediction.replace(x0=prediction.x0.astype(jnp.float32))
