"""How a kind of network is called in diffusion sampling."""

import dataclasses
from collections.abc import Callable

from flax import linen as nn

from unclip_jax import images
from unclip_jax.arrays import PyTree
from unclip_jax.stages.conditions import Conditions
from unclip_jax.stages.stage import Stage

# Keyword arguments of a network besides x_t and t, with one row per image.
Inputs = dict[str, PyTree]
Prepare = Callable[[nn.Module, Inputs], Inputs]
Unconditional = Callable[[nn.Module, Inputs, Inputs], Inputs]


def image_shape(module: nn.Module) -> tuple[int, ...]:
    """Returns the shape of an image of the network's size."""
    return (*images.height_width(module.image_size), 3)


def unchanged(module: nn.Module, inputs: Inputs) -> Inputs:
    """Returns the inputs as they are."""
    return inputs


@dataclasses.dataclass(frozen=True)
class Denoising:
    """How a kind of network is called in diffusion sampling.

    Attributes:
      inputs: Keyword arguments of the network, one row per image, from a stage and its conditions. Host arrays.
      unconditional: (module, inputs, inputs of the empty caption, one row) -> inputs of the unconditional half. If
        None, the network cannot be guided, and `guidance_scale` must be 1.
      prepare: What is done to the inputs inside the compiled program, once per segment, such as resizing `low_res`.
      shape: Shape of one sample.
    """

    inputs: Callable[[Stage, Conditions], Inputs]
    unconditional: Unconditional | None
    prepare: Prepare = unchanged
    shape: Callable[[nn.Module], tuple[int, ...]] = image_shape

    def check_scale(self, stage: str, scale: float) -> None:
        """Raises ValueError if `scale` is not 1 and the network, that of `stage`, cannot be guided."""
        if self.unconditional is None and scale != 1.0:
            raise ValueError(f"guidance_scale of {stage} is {scale}; it must be 1, since it cannot be guided")


@dataclasses.dataclass(frozen=True, eq=False)
class NetworkCall:
    """The inputs of one sampling.

    Attributes:
      inputs: Keyword arguments of the network, N rows each.
      empty: Those of the empty caption, one row each; only read if there is guidance.
      denoising: How the network is called.
    """

    inputs: Inputs
    empty: Inputs
    denoising: Denoising


def network_call(denoising: Denoising, stage: Stage, conditions: Conditions, empty: Conditions) -> NetworkCall:
    """Returns the inputs of a stage under these conditions.

    Args:
      denoising: How the stage's kind calls its network.
      conditions: N rows.
      empty: What replaces them in the unconditional half, one row: the empty caption.
    """
    unconditional = conditions.rows(0).merge(empty)
    return NetworkCall(denoising.inputs(stage, conditions), denoising.inputs(stage, unconditional), denoising)
