"""Table of samplers by name, which other packages can extend."""

from collections.abc import Callable

from flax import struct

from unclip_jax.arrays import Float
from unclip_jax.diffusion.samplers.ddim import DDIM
from unclip_jax.diffusion.samplers.ddpm import Ancestral
from unclip_jax.diffusion.samplers.dpm_solver import DPMSolver
from unclip_jax.diffusion.samplers.sampler import Sampler
from unclip_jax.diffusion.schedule import Schedule
from unclip_jax.registry import Registry


@struct.dataclass
class SamplerOptions:
    """Options for creating samplers, which ignore the options that do not apply to them.

    Attributes:
      eta: Stochasticity of DDIM, in [0, 1]. May be traced.
      variance: Reverse variance of ancestral sampling, one of `variance.VARIANCES`. Static.
    """

    eta: Float[""] | float = 0.0
    variance: str = struct.field(pytree_node=False, default="fixed_small")


MakeSampler = Callable[[Schedule, SamplerOptions], Sampler]

SAMPLERS: Registry[MakeSampler] = Registry(
    "sampler",
    "unclip_jax.samplers",
    {
        "ddpm": lambda schedule, options: Ancestral(schedule, options.variance),
        "ddim": lambda schedule, options: DDIM(schedule, options.eta),
        "dpm": lambda schedule, options: DPMSolver(schedule),
    },
)
