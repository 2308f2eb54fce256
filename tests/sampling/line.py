"""A stage whose network is a formula, for closed forms: one row is a few numbers.

The network is `a * x_t + c`, where c is the row's `offset`, or the empty caption's in the unconditional half.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from unclip_jax.diffusion.settings import SamplingSettings
from unclip_jax.diffusion.spec import DiffusionSpec
from unclip_jax.sampling.denoising import Denoising, NetworkCall
from unclip_jax.sampling.rows import SampleRequest
from unclip_jax.stages.spec import StageSpec
from unclip_jax.stages.stage import Stage

SIZE = 3  # numbers per row


class Line(nn.Module):
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x, t, offset):
        return self.param("a", nn.initializers.zeros, ()) * x + offset


def unconditional(module, inputs, empty):
    return empty


DENOISING = Denoising(inputs=None, unconditional=unconditional, shape=lambda module: (SIZE,))


def stage(*, predicts="x0", a=0.0, a_last=None, clip_x0=None, steps=1000, **sampling) -> Stage:
    """A stage with the factor `a`, and `a_last` at the step at the least noise."""
    place = jax.local_devices()[0]
    spec = StageSpec(
        name="line",
        kind="line",
        model={},
        diffusion=DiffusionSpec(predicts=predicts, clip_x0=clip_x0, steps=steps),
        sampling=SamplingSettings(**{"sampler": "ddim", **sampling}),
        last_step_params=a_last is not None,
    )
    params, last = (
        None if factor is None else {"a": jax.device_put(np.float32(factor), place)} for factor in (a, a_last)
    )
    return Stage(spec=spec, module=Line(), params=params, last_step_params=last)


def call(offset, empty=0.0) -> NetworkCall:
    """The inputs of a row for each entry of `offset`."""
    rows = np.broadcast_to(np.asarray(offset, np.float32).reshape(len(offset), -1), (len(offset), SIZE))
    return NetworkCall({"offset": rows}, {"offset": np.full((1, SIZE), empty, np.float32)}, DENOISING)


def request(rows, seed=0, **fields) -> SampleRequest:
    return SampleRequest(seed=seed, image_ids=np.arange(rows), devices=jax.local_devices()[:1], **fields)


def alpha_bar(steps=1000) -> np.ndarray:
    """The cosine schedule (Improved DDPM, Eq. 17) in float64; the entry -1 is clean."""
    u = np.arange(steps + 1) / steps
    curve = np.cos((u + 0.008) / 1.008 * np.pi / 2) ** 2
    return np.append(np.cumprod(1.0 - np.minimum(1.0 - curve[1:] / curve[:-1], 0.999)), 1.0)


def ddim(x, path, network, *, predicts="x0", steps=1000) -> np.ndarray:
    """DDIM with eta 0 (arXiv 2010.02502, Eq. 12) along a path, in float64. network: (x, t) -> output."""
    signal, noise = np.sqrt(alpha_bar(steps)), np.sqrt(1.0 - alpha_bar(steps))
    for t, t_next in zip(path, path[1:]):
        output = network(x, t)
        if predicts == "x0":
            x0, eps = output, (x - signal[t] * output) / noise[t]
        else:
            x0, eps = (x - noise[t] * output) / signal[t], output
        x = signal[t_next] * x0 + noise[t_next] * eps
    return x
