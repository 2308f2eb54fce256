"""AdamW with clipping, warm-up and a schedule, from a config's section `optimizer`.

    learning rate of update n (from 0) = peak * min(1, (n + 1) / warmup) * f((n - warmup) / (steps - warmup))
    f(u) = 1 (constant),  1 - u (linear),  (1 + cos(pi u)) / 2 (cosine),   u clipped to [0, 1]

Gradients are first scaled down to a global norm of at most `clip_norm`. Weights decay, the rest does not: biases,
scales of norms, embeddings and positions, learned tokens, and CLIP's logit scale.
"""

import fnmatch
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from unclip_jax import parameters
from unclip_jax.arrays import PyTree

SCHEDULES = {
    "constant": jnp.ones_like,
    "linear": lambda u: 1.0 - u,
    "cosine": lambda u: (1.0 + jnp.cos(jnp.pi * u)) / 2.0,
}
# By name and not by number of axes alone: the biases of scanned layers are stacked, and so have two axes.
UNDECAYED = ("bias", "scale", "embedding", "positional_embedding", "class_embedding", "logit_scale", "query")
UNDECAYED_PREFIX = "null_"
FROZEN = {True: "frozen", False: "trained"}


def learning_rate(config: ConfigDict, steps: int) -> optax.Schedule:
    """The learning rate by number of updates done, for a run of `steps`. Raises ValueError for an unknown schedule."""
    if config.schedule not in SCHEDULES:
        raise ValueError(f"config.optimizer.schedule {config.schedule!r} is unknown; known: {', '.join(SCHEDULES)}")
    shape, warmup = SCHEDULES[config.schedule], config.warmup_steps

    def schedule(updates) -> jax.Array:
        updates = jnp.asarray(updates, jnp.float32)
        progress = jnp.clip((updates - warmup) / max(steps - warmup, 1), 0.0, 1.0)
        return config.learning_rate * jnp.minimum(1.0, (updates + 1.0) / max(warmup, 1)) * shape(progress)

    return schedule


def decays(params: PyTree) -> PyTree:
    """True for each parameter that weight decay pulls to zero."""

    def one(path, leaf) -> bool:
        name = path[-1].key
        return leaf.ndim > 1 and name not in UNDECAYED and not name.startswith(UNDECAYED_PREFIX)

    return jax.tree_util.tree_map_with_path(one, params)


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


def make_optimizer(config: ConfigDict, steps: int) -> optax.GradientTransformation:
    """The optimizer of a run of `steps`. `clip_norm` None: gradients are not clipped.

    Parameters that `freeze` names get no update, have no state, and do not count in the norm that is clipped.
    """
    clip = optax.identity() if config.clip_norm is None else optax.clip_by_global_norm(config.clip_norm)
    adamw = optax.adamw(
        learning_rate(config, steps),
        b1=config.b1,
        b2=config.b2,
        eps=config.eps,
        weight_decay=config.weight_decay,
        mask=decays,
    )
    optimizer = optax.chain(clip, adamw)
    if not config.freeze:
        return optimizer
    return optax.partition(
        {"trained": optimizer, "frozen": optax.set_to_zero()},
        lambda params: jax.tree.map(lambda is_frozen: FROZEN[is_frozen], frozen(params, config.freeze)),
    )
