"""Interface between diffusion sampling and the networks of stage kinds."""

import dataclasses
from collections.abc import Callable

from flax import linen as nn

from unclip_jax import images
from unclip_jax.arrays import PyTree
from unclip_jax.stages.conditions import Conditions
from unclip_jax.stages.stage import Stage

# Keyword arguments of a network, that is, all arguments except x_t and t, with one row per image.
Inputs = dict[str, PyTree]
Prepare = Callable[[nn.Module, Inputs], Inputs]
Unconditional = Callable[[nn.Module, Inputs, Inputs], Inputs]


def image_shape(module: nn.Module) -> tuple[int, ...]:
    """Returns the shape of the images that a network generates."""
    return (*images.height_width(module.image_size), 3)


def unchanged(module: nn.Module, inputs: Inputs) -> Inputs:
    """Returns the inputs unchanged."""
    return inputs


@dataclasses.dataclass(frozen=True)
class Denoising:
    """Calling convention of the networks of a kind in diffusion sampling.

    Attributes:
      inputs: (stage, conditions) -> keyword arguments of the network, host arrays with one row per image.
      unconditional: (module, inputs, inputs of the empty caption with one row) -> inputs for the unconditional
        prediction. If None, classifier-free guidance is not supported and `guidance_scale` must be 1.
      prepare: (module, inputs) -> inputs. Runs inside the compiled function, once per segment; for example, it resizes
        `low_res`.
      shape: module -> shape of one sample, without the batch axis.
    """

    inputs: Callable[[Stage, Conditions], Inputs]
    unconditional: Unconditional | None
    prepare: Prepare = unchanged
    shape: Callable[[nn.Module], tuple[int, ...]] = image_shape

    def check_scale(self, stage: str, scale: float) -> None:
        """Raises ValueError if `scale` is not 1 and the network does not support classifier-free guidance."""
        if self.unconditional is None and scale != 1.0:
            raise ValueError(f"guidance_scale of {stage} must be 1, got {scale}. It does not support guidance.")


@dataclasses.dataclass(frozen=True, eq=False)
class NetworkCall:
    """Inputs of a network for sampling N rows.

    Attributes:
      inputs: Keyword arguments of the network, with N rows.
      empty: Keyword arguments for the empty caption, with one row. Used only with classifier-free guidance.
      denoising: Calling convention of the network.
    """

    inputs: Inputs
    empty: Inputs
    denoising: Denoising


def network_call(denoising: Denoising, stage: Stage, conditions: Conditions, empty: Conditions) -> NetworkCall:
    """Returns the network inputs of a stage.

    Args:
      denoising: Calling convention of the stage's kind.
      stage: The stage.
      conditions: Conditions with N rows.
      empty: Conditions of the empty caption, with one row. They replace `conditions` in the unconditional prediction.
    """
    unconditional = conditions.rows(0).merge(empty)
    return NetworkCall(denoising.inputs(stage, conditions), denoising.inputs(stage, unconditional), denoising)
