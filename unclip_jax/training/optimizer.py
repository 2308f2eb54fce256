"""AdamW with clipping, warm-up and a schedule, from a config's section `optimizer`.

    learning rate of update n (from 0) = peak * min(1, (n + 1) / warmup) * f((n - warmup) / (steps - warmup))
    f(u) = 1 (constant),  1 - u (linear),  (1 + cos(pi u)) / 2 (cosine),   u clipped to [0, 1]

Gradients are first scaled down to a global norm of at most `clip_norm`. Only kernels decay: no biases, scales of norms,
embeddings, positions, learned tokens, nor CLIP's logit scale.
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
    """Returns the learning rate by number of updates done, for a run of `steps`.

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
    """Returns True for each parameter that decays: kernels, except those of a single axis.

    The number of axes alone does not decide: the biases of scanned layers are stacked, and so have two.
    """
    return jax.tree_util.tree_map_with_path(lambda path, leaf: path[-1].key == "kernel" and leaf.ndim > 1, params)


def frozen(params: PyTree, patterns: Sequence[str]) -> PyTree:
    """True for each parameter whose path, such as "unet/conv_in/kernel", one of the shell patterns matches.

    Raises ValueError for a pattern that matches nothing, and where nothing is left to be trained.
    """
    flat = parameters.flatten(params)
    for pattern in patterns:
        if not fnmatch.filter(flat, pattern):
            heads = sorted({name.partition("/")[0] for name in flat})
            raise ValueError(
                f"config.optimizer.freeze {pattern!r} matches no parameter, such as {min(flat)!r}; "
                f"their paths begin with: {', '.join(heads)}"
            )
    matched = {name: any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns) for name in flat}
    if all(matched.values()):
        raise ValueError(f"config.optimizer.freeze {list(patterns)} leaves no parameter to be trained")
    return parameters.unflatten(matched)


def make_optimizer(spec: OptimizerSpec, steps: int) -> optax.GradientTransformation:
    """The optimizer of a run of `steps`. `clip_norm` None: gradients are not clipped.

    Parameters that `freeze` names get no update, have no state, and do not count in the norm that is clipped.
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
