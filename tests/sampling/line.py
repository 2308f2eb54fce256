"""Stage with a linear network, whose samples have a closed form.

A row is a vector of three numbers. The network is `a * x_t + offset`, with one offset per row; the unconditional
prediction uses the offset of the empty caption.
"""

import itertools
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

SIZE = 3  # width of a row


class Line(nn.Module):
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x, t, offset):
        return self.param("a", nn.initializers.zeros, ()) * x + offset


def unconditional(module, inputs, empty):
    return empty


DENOISING = Denoising(inputs=None, unconditional=unconditional, shape=lambda module: (SIZE,))


def stage(*, predicts="x0", a=0.0, a_last=None, clip_x0=None, steps=1000, **sampling) -> Stage:
    """Returns a stage with the factor `a`, and `a_last` at the step with the least noise."""
    device = jax.local_devices()[0]
    spec = StageSpec(
        name="line",
        kind="line",
        model={},
        diffusion=DiffusionSpec(predicts=predicts, clip_x0=clip_x0, steps=steps),
        sampling=SamplingSettings(**{"sampler": "ddim", **sampling}),
        last_step_params=a_last is not None,
    )
    params, last = (
        None if factor is None else {"a": jax.device_put(np.float32(factor), device)} for factor in (a, a_last)
    )
    return Stage(spec=spec, module=Line(), params=params, last_step_params=last)


def call(offset, empty=0.0) -> NetworkCall:
    """Returns the inputs of one row per entry of `offset`."""
    rows = np.broadcast_to(np.asarray(offset, np.float32).reshape(len(offset), -1), (len(offset), SIZE))
    return NetworkCall({"offset": rows}, {"offset": np.full((1, SIZE), empty, np.float32)}, DENOISING)


def request(rows, seed=0, **fields) -> SampleRequest:
    return SampleRequest(seed=seed, image_ids=np.arange(rows), devices=jax.local_devices()[:1], **fields)


def alpha_bar(steps=1000) -> np.ndarray:
    """Returns alpha_bar of the cosine schedule (Improved DDPM, Eq. 17) in float64. Entry -1 is 1 (no noise)."""
    u = np.arange(steps + 1) / steps
    curve = np.cos((u + 0.008) / 1.008 * np.pi / 2) ** 2
    return np.append(np.cumprod(1.0 - np.minimum(1.0 - curve[1:] / curve[:-1], 0.999)), 1.0)


def ddim(x, path, network, *, predicts="x0", steps=1000) -> np.ndarray:
    """Runs DDIM with eta=0 (arXiv 2010.02502, Eq. 12) along `path` in float64; network: (x, t) -> output."""
    signal, noise = np.sqrt(alpha_bar(steps)), np.sqrt(1.0 - alpha_bar(steps))
    for t, t_next in itertools.pairwise(path):
        output = network(x, t)
        if predicts == "x0":
            x0, eps = output, (x - signal[t] * output) / noise[t]
        else:
            x0, eps = (x - noise[t] * output) / signal[t], output
        x = signal[t_next] * x0 + noise[t_next] * eps
    return x
