"""AdamW with gradient clipping, warm-up and a learning-rate schedule.

    learning rate of update n (from 0) = peak * min(1, (n + 1) / warmup) * f((n - warmup) / (steps - warmup))
    f(u) = 1 (constant),  1 - u (linear),  (1 + cos(pi u)) / 2 (cosine),   u clipped to [0, 1]

Gradients are first scaled down to a global norm of at most `clip_norm`. Weight decay applies only to kernels: not to
biases, scales of normalization layers, embeddings, positions, learned tokens or CLIP's logit scale.
"""

import fnmatch
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax

from unclip_jax import parameters
from unclip_jax.arrays import PyTree
from unclip_jax.errors import choose
from unclip_jax.training.spec import OptimizerSpec

SCHEDULES = {
    "constant": jnp.ones_like,
    "linear": lambda u: 1.0 - u,
    "cosine": lambda u: (1.0 + jnp.cos(jnp.pi * u)) / 2.0,
}
FROZEN = {True: "frozen", False: "trained"}


def learning_rate(spec: OptimizerSpec, steps: int) -> optax.Schedule:
    """Returns the learning-rate schedule, a function of the number of updates already made.

    Args:
      spec: Optimizer settings.
      steps: Number of training steps.

    Raises:
      ValueError: If the schedule is unknown.
    """
    shape, warmup = choose(SCHEDULES, spec.schedule, "learning-rate schedule"), spec.warmup_steps

    def schedule(updates) -> jax.Array:
        updates = jnp.asarray(updates, jnp.float32)
        progress = jnp.clip((updates - warmup) / max(steps - warmup, 1), 0.0, 1.0)
        return spec.learning_rate * jnp.minimum(1.0, (updates + 1.0) / max(warmup, 1)) * shape(progress)

    return schedule


def decays(params: PyTree) -> PyTree:
    """Returns for each parameter whether weight decay applies to it: kernels with at least two axes.

    The number of axes alone is not sufficient, because the biases of scanned layers are stacked and have two axes.
    """
    return jax.tree_util.tree_map_with_path(lambda path, leaf: path[-1].key == "kernel" and leaf.ndim > 1, params)


def frozen(params: PyTree, patterns: Sequence[str]) -> PyTree:
    """Returns for each parameter whether it is frozen.

    Args:
      params: The parameters, a nested dict.
      patterns: Shell patterns of the paths of frozen parameters, such as "unet/conv_in/*".

    Raises:
      ValueError: If a pattern matches no parameter, or if the patterns match all parameters.
    """
    flat = parameters.flatten(params)
    for pattern in patterns:
        if not fnmatch.filter(flat, pattern):
            heads = sorted({name.partition("/")[0] for name in flat})
            raise ValueError(
                f"config.optimizer.freeze must match paths of parameters, such as {min(flat)!r}, but {pattern!r} "
                f"matches none. The paths start with: {', '.join(heads)}."
            )
    matched = {name: any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns) for name in flat}
    if all(matched.values()):
        raise ValueError(f"config.optimizer.freeze must leave parameters to train, but {list(patterns)} match all.")
    return parameters.unflatten(matched)


def make_optimizer(spec: OptimizerSpec, steps: int) -> optax.GradientTransformation:
    """Builds the optimizer.

    Parameters that match `spec.freeze` are not updated, have no optimizer state and do not contribute to the norm that
    is clipped.

    Args:
      spec: Optimizer settings.
      steps: Number of training steps.

    Raises:
      ValueError: If the schedule is unknown.
    """
    clip = optax.identity() if spec.clip_norm is None else optax.clip_by_global_norm(spec.clip_norm)
    adamw = optax.adamw(
        learning_rate(spec, steps),
        b1=spec.b1,
        b2=spec.b2,
        eps=spec.eps,
        weight_decay=spec.weight_decay,
        mask=decays,
    )
    optimizer = optax.chain(clip, adamw)
    if not spec.freeze:
        return optimizer
    return optax.partition(
        {"trained": optimizer, "frozen": optax.set_to_zero()},
        lambda params: jax.tree.map(lambda is_frozen: FROZEN[is_frozen], frozen(params, spec.freeze)),
    )
