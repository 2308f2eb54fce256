"""Learning rate, weight decay, clipping and freezing, compared with values computed by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.models.test_example_inputs import NETWORKS
from unclip_jax import parameters
from unclip_jax.models.network import parameter_shapes
from unclip_jax.training.optimizer import decays, frozen, learning_rate, make_optimizer
from unclip_jax.training.spec import OptimizerSpec


@pytest.mark.parametrize(
    ("schedule", "updates", "rate"),
    [
        ("constant", 0, 0.02),  # the first of five warm-up updates
        ("constant", 3, 0.08),
        ("constant", 4, 0.1),
        ("constant", 999, 0.1),
        ("linear", 4, 0.1),
        ("linear", 5, 0.1),
        ("linear", 15, 0.05),  # halfway from 5 to 25
        ("linear", 25, 0.0),
        ("cosine", 4, 0.1),
        ("cosine", 10, 0.1 * (1 + np.sqrt(0.5)) / 2),  # a quarter of the way: cos(pi / 4)
        ("cosine", 15, 0.05),
        ("cosine", 25, 0.0),
        ("cosine", 40, 0.0),
    ],
)
def test_learning_rate_warms_up_then_follows_schedule(schedule, updates, rate):
    config = OptimizerSpec(learning_rate=0.1, schedule=schedule, warmup_steps=5)
    assert float(learning_rate(config, 25)(updates)) == pytest.approx(rate, abs=1e-8)


def test_learning_rate_starts_at_peak_without_warm_up():
    assert float(learning_rate(OptimizerSpec(learning_rate=0.1, schedule="cosine"), 25)(0)) == pytest.approx(0.1)


def test_unknown_schedule_is_rejected_with_available_ones():
    with pytest.raises(ValueError, match="learning-rate schedule 'step'. Available: constant, linear, cosine"):
        learning_rate(OptimizerSpec(schedule="step"), 25)


def test_only_kernels_decay():
    block = {"kernel": jnp.ones((2, 4, 4)), "bias": jnp.ones((2, 4)), "scale": jnp.ones((2, 4))}
    params = {
        "blocks": {"dense": block},
        "token_embedding": {"embedding": jnp.ones((8, 4))},
        "patch_embedding": {"kernel": jnp.ones((2, 2, 3, 4))},
        "positional_embedding": jnp.ones((8, 4)),
        "class_embedding": jnp.ones(4),
        "null_image": jnp.ones((1, 4)),
        "logit_scale": jnp.ones(()),
    }
    assert decays(params) == {
        "blocks": {"dense": {"kernel": True, "bias": False, "scale": False}},
        "token_embedding": {"embedding": False},
        "patch_embedding": {"kernel": True},
        "positional_embedding": False,
        "class_embedding": False,
        "null_image": False,
        "logit_scale": False,
    }


# In earlier versions all parameters with more than one axis decayed, except for these names. This rule wrongly included
# two parameters.
UNDECAYED = ("bias", "scale", "embedding", "positional_embedding", "class_embedding", "logit_scale", "query")
WERE_DECAYED = ("padding_embedding", "query_value_bias")


@pytest.mark.parametrize("name", NETWORKS)
def test_all_kernels_of_each_network_decay(name):
    shapes = parameter_shapes(NETWORKS[name][0])
    decayed = parameters.flatten(decays(shapes))
    for path, leaf in parameters.flatten(shapes).items():
        last = path.rpartition("/")[2]
        before = leaf.ndim > 1 and last not in UNDECAYED and not last.startswith("null_")
        assert decayed[path] == (before and last not in WERE_DECAYED), path
    assert any(decayed.values())


def test_padding_embedding_and_query_value_bias_do_not_decay():
    for network, name in (("glide", "padding_embedding"), ("noised-clip", "query_value_bias")):
        decayed = parameters.flatten(decays(parameter_shapes(NETWORKS[network][0])))
        paths = [path for path in decayed if path.endswith(name)]
        assert paths and not any(decayed[path] for path in paths)


def test_first_adamw_update_is_sign_of_gradient_plus_decay():
    # With bias correction, the first update is g / (|g| + eps) for any b1 and b2. Decay adds weight_decay * w.
    optimizer = make_optimizer(OptimizerSpec(learning_rate=0.1, weight_decay=0.5, clip_norm=None), 10)
    params = {"kernel": jnp.full((2, 2), 3.0), "bias": jnp.full(2, 3.0)}
    gradient = {"kernel": jnp.array([[1.0, -2.0], [0.5, -4.0]]), "bias": jnp.array([2.0, -1.0])}
    updates, _ = optimizer.update(gradient, optimizer.init(params), params)
    expected = -0.1 * (np.sign(gradient["kernel"]) + 0.5 * 3.0)
    np.testing.assert_allclose(updates["kernel"], expected, rtol=1e-4)
    np.testing.assert_allclose(updates["bias"], -0.1 * np.sign(gradient["bias"]), rtol=1e-4)


def test_clip_norm_scales_gradients_to_global_norm():
    # If eps is much larger than the gradients, the update is proportional to the clipped gradient: lr * g / eps.
    gradient = {"kernel": jnp.array([[3.0, 0.0], [0.0, 4.0]]), "bias": jnp.array([12.0, 0.0])}  # norm 13
    params = jax.tree.map(jnp.zeros_like, gradient)
    for clip_norm, scale in ((1.3, 0.1), (26.0, 1.0), (None, 1.0)):
        optimizer = make_optimizer(OptimizerSpec(learning_rate=1.0, eps=1e6, clip_norm=clip_norm), 10)
        updates, _ = optimizer.update(gradient, optimizer.init(params), params)
        assert float(optax.tree.norm(updates)) == pytest.approx(13.0 * scale / 1e6, rel=1e-4)
        np.testing.assert_allclose(updates["bias"], [-12.0 * scale / 1e6, 0.0], rtol=1e-4)


def test_frozen_parameters_have_no_update_no_state_and_no_effect_on_norm():
    spec = OptimizerSpec(learning_rate=1.0, eps=1e6, clip_norm=1.3, freeze=("tower/*", "*/bias"))
    optimizer = make_optimizer(spec, 10)
    params = {"tower": {"kernel": jnp.ones((2, 2))}, "head": {"kernel": jnp.zeros((2, 2)), "bias": jnp.ones(2)}}
    gradient = {
        "tower": {"kernel": jnp.full((2, 2), 100.0)},
        "head": {"kernel": jnp.array([[5.0, 0.0], [0.0, 12.0]]), "bias": jnp.full(2, 100.0)},
    }
    state = optimizer.init(params)
    updates, _ = optimizer.update(gradient, state, params)
    np.testing.assert_array_equal(updates["tower"]["kernel"], 0.0)
    np.testing.assert_array_equal(updates["head"]["bias"], 0.0)
    np.testing.assert_allclose(updates["head"]["kernel"], -0.1 * gradient["head"]["kernel"] / 1e6, rtol=1e-4)
    assert sorted(leaf.size for leaf in jax.tree.leaves(state)) == [
        1,
        1,
        4,
        4,
    ]  # two counters and two moments of one kernel


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (("unet/up_*",), r"such as 'head/kernel', but 'unet/up_\*' matches none. The paths start with: head, tower."),
        (("*",), r"must leave parameters to train, but \['\*'\] match all"),
    ],
)
def test_freeze_patterns_that_match_nothing_or_everything_are_rejected(patterns, message):
    with pytest.raises(ValueError, match=message):
        frozen({"tower": {"kernel": 0}, "head": {"kernel": 0}}, patterns)
