"""A cascade in memory: trained stages, the tokenizer, and the statistics of the embeddings.

Any stage may be absent: a cascade of CLIP alone embeds, one without upsamplers stops at the decoder's size.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from unclip_jax import parameters
from unclip_jax.arrays import PyTree
from unclip_jax.gpt2_tokenizer import GPT2Tokenizer
from unclip_jax.models.clip import TextFeatures
from unclip_jax.models.precision import parameter_dtype
from unclip_jax.tokenizer import Tokenizer

# Kinds of stage that are sampled. The others are asked once: CLIP, and what guides by its gradient.
SAMPLED = ("diffusion_prior", "decoder", "upsampler", "glide", "unet")


@dataclasses.dataclass(frozen=True, eq=False)
class Stage:
    """One trained network.

    Args:
      name: of the stage in its cascade, such as "upsampler_16_to_64"; seeds its noise.
      config: the stage's config.json.
      module: the linen module.
      params: its parameters, on every device that samples, in the types of `precision.parameter_dtype`.
      last_params: those for the last step of sampling, where it has its own (Karlo's upsampler); None: the same.
    """

    name: str
    config: Mapping[str, Any]
    module: nn.Module
    params: PyTree
    last_params: PyTree | None = None

    @property
    def kind(self) -> str:
        return self.config["kind"]

    def leaves(self) -> list[jax.Array]:
        """All its arrays on devices."""
        return [leaf for leaf in jax.tree.leaves((self.params, self.last_params)) if isinstance(leaf, jax.Array)]


@dataclasses.dataclass(frozen=True, eq=False)
class Cascade:
    """Stages in the order in which they run.

    Args:
      tokenizer: CLIP's, or GLIDE's; None where no stage reads captions.
      statistics: `mean` and `std`, float32 "E", of the embeddings that the prior works on; None without a prior.
      draws: one line that says what the cascade can draw; None: nobody said.
      devices: the local devices that sample.
      path: the folder that it came from.
    """

    stages: Mapping[str, Stage]
    tokenizer: Tokenizer | GPT2Tokenizer | None
    statistics: Mapping[str, np.ndarray] | None
    draws: str | None
    devices: tuple[jax.Device, ...]
    path: str

    def keep(self, *stages: Stage) -> None:
        """Deletes from the devices all parameters but those of these stages. What else holds the same arrays, such as
        another cascade made of this one, loses them too."""
        kept = {id(leaf) for stage in stages for leaf in stage.leaves()}
        for stage in self.stages.values():
            for leaf in stage.leaves():
                if id(leaf) not in kept:
                    leaf.delete()

    def check_held(self) -> None:
        """Raises ValueError where parameters were deleted."""
        if any(leaf.is_deleted() for stage in self.stages.values() for leaf in stage.leaves()):
            raise ValueError(
                f"cascade {self.path!r} was freed while it drew (free=True), and draws no more; open it again, by "
                "load_cascade"
            )

    def of_kind(self, kind: str) -> list[Stage]:
        return [stage for stage in self.stages.values() if stage.kind == kind]

    def only(self, kind: str) -> Stage:
        """The one stage of a kind. Raises ValueError where the cascade has none."""
        found = self.of_kind(kind)
        if not found:
            raise ValueError(f"cascade {self.path!r} has no stage of kind {kind!r}; it has: {', '.join(self.stages)}")
        return found[0]


def example_inputs(kind: str, module: nn.Module) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """One row of inputs of the right shapes, to initialise or trace a stage's network with: by place, and by name."""
    t = jnp.zeros(1, jnp.int32)
    if kind == "clip":
        side = module.image_size or 0
        return (jnp.zeros((1, side, side, 3)), _tokens(module)), {}
    if kind == "diffusion_prior":
        return (jnp.zeros((1, module.embed_dim)), t, _features(module)), {}
    if kind == "noised_clip":
        return (jnp.zeros((1, module.image_size, module.image_size, 3)), t, _tokens(module)), {}
    # What stands behind a noised picture counts as more channels of it.
    x = jnp.zeros((1, module.image_size, module.image_size, module.in_channels))
    if kind == "decoder":
        return (x, t, jnp.zeros((1, module.embed_dim)), _features(module)), {}
    if kind == "upsampler":
        return (x[..., :3], t, x[..., 3:]), {}
    if kind == "glide":
        return (x, t, _tokens(module), jnp.ones((1, module.context_length), bool)), {}
    classes = getattr(module, "num_classes", None) if kind == "unet" else None
    return (x, t), {} if classes is None else {"labels": t}


def _tokens(module: nn.Module) -> jax.Array:
    return jnp.zeros((1, module.context_length), jnp.int32)


def _features(module: nn.Module) -> TextFeatures:
    # The decoder takes texts of any length: eight tokens stand for them.
    length = getattr(module, "context_length", 8)
    return TextFeatures(
        pooled=jnp.zeros((1, module.embed_dim)),
        sequence=jnp.zeros((1, length, module.text_width)),
        mask=jnp.ones((1, length), bool),
    )


def shapes(kind: str, module: nn.Module) -> PyTree:
    """The tree of parameter shapes of a stage's network."""
    (inputs, named), method = example_inputs(kind, module), None
    if kind == "clip" and module.image_width is None:
        inputs, method = inputs[1:], "encode_text"
    initialise = functools.partial(module.init, method=method)
    return jax.eval_shape(initialise, jax.random.key(0), *inputs, **named)["params"]


def replicated(devices: Sequence[jax.Device]) -> jax.sharding.NamedSharding:
    """Every device holds the whole: placed so once, parameters are not copied again when a sampler is called."""
    return _sharded(devices)


def on_devices(devices: Sequence[jax.Device], dtype: Any) -> parameters.Place:
    """Puts the parameters of a network that computes in `dtype` on every device, in the type that serves it."""
    return parameters.on_devices(replicated(devices), lambda name: parameter_dtype(name, dtype))


def row_sharded(devices: Sequence[jax.Device]) -> jax.sharding.NamedSharding:
    """The first axis, of one entry a device, lies on its device each."""
    return _sharded(devices, "device")


def _sharded(devices: Sequence[jax.Device], *axes: str) -> jax.sharding.NamedSharding:
    mesh = jax.sharding.Mesh(np.asarray(devices), ("device",))
    return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axes))
