import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import reference_networks as reference
from tests.lowered_products import products
from tests.quick import jit
from tests.randomised import initialised
from unclip_jax.models.noised_classifier import AttentionPool, NoisedClassifier

FIELDS = {
    "image_size": 8, "channels": 8, "channel_mult": (1, 2), "res_blocks": 1, "attention_resolutions": (4,),
    "groups": 4, "head_channels": 8, "num_classes": 5,
}  # fmt: skip
RANDOM = np.random.default_rng(0)
X = RANDOM.standard_normal((2, 8, 8, 3)).astype(np.float32)
T = np.array([3, 700])
TOLERANCE = 5e-5


def applied(module, params, x=X, t=T):
    return jit(lambda p, x, t: module.apply({"params": p}, x, t))(params, x, t)


@pytest.mark.parametrize(
    ("fields", "attentive", "heads"),
    [({}, (1,), lambda channels: channels // 8), ({"attention_resolutions": (), "num_heads": 4}, (), lambda _: 4)],
)
def test_noised_classifier_matches_the_reference(fields, attentive, heads):
    module = NoisedClassifier(**FIELDS | fields)
    params = initialised(module, X, T)
    expected = reference.noised_classifier(
        params, X.astype(np.float64), T, levels=2, res_blocks=1, attentive=attentive, heads=heads, groups=4,
        scale_shift=True,
    )  # fmt: skip
    actual = applied(module, params)
    assert actual.shape == (2, 5) and actual.dtype == jnp.float32
    np.testing.assert_allclose(actual, expected, atol=TOLERANCE)
    for other in (applied(module, params, -X), applied(module, params, t=T + 40)):
        assert np.all(np.abs(other - expected).max(axis=1) > 10 * TOLERANCE)


def test_attention_pool_uses_positions():
    x = RANDOM.standard_normal((1, 2, 2, 8)).astype(np.float32)
    module = AttentionPool(features=3, heads=2)
    params = initialised(module, x)
    apply = jit(lambda p, x: module.apply({"params": p}, x))
    actual = apply(params, x)
    np.testing.assert_allclose(actual, reference.attention_pool(params, x.astype(np.float64), 2), atol=TOLERANCE)
    assert np.abs(apply(params, x[:, ::-1]) - actual).max() > 10 * TOLERANCE
    without_positions = params | {"positional_embedding": np.zeros((5, 8), np.float32)}
    np.testing.assert_allclose(apply(without_positions, x[:, ::-1]), apply(without_positions, x), atol=TOLERANCE)


def test_noised_classifier_time_embedding_and_pool_are_float32():
    module = NoisedClassifier(**FIELDS, dtype=jnp.bfloat16)
    params = jax.eval_shape(module.init, jax.random.key(0), X, T)
    types = products(jit(module.apply).lower(params, X, T).as_text())
    # Two layers of the time embedding, and qkv, both attention products and the logits of the pool.
    assert types.count(("f32", "f32")) == 2 + 4
    assert types.count(("bf16", "bf16")) == len(types) - 6 > 0
    assert jax.eval_shape(module.apply, params, X, T).dtype == jnp.float32


def test_noised_classifier_remat_wraps_every_block():
    module = NoisedClassifier(**FIELDS, remat=True)
    params = jax.eval_shape(module.init, jax.random.key(0), X, T)
    # Blocks: two down, one downsampling, two in the bottleneck. Attention: one down, one in the bottleneck.
    assert str(jax.make_jaxpr(module.apply)(params, X, T)).count("prevent_cse") == 5 + 2
    assert "prevent_cse" not in str(jax.make_jaxpr(module.clone(remat=False).apply)(params, X, T))


@pytest.mark.parametrize(
    ("fields", "x", "message"),
    [
        ({}, X[:, :4], "images must be 8 px, got 4 x 8 px"),
        ({}, X[..., :2], "must have 3 channels .*, got 2"),
        ({"head_channels": 12}, X, "head_channels must divide the 16 channels of a level, got 12"),
        ({"attention_resolutions": (), "num_heads": 3}, X, "num_heads must divide the 16 channels of a level, got 3"),
    ],
)
def test_noised_classifier_rejects_inconsistent_inputs(fields, x, message):
    with pytest.raises(ValueError, match=message):
        initialised(NoisedClassifier(**FIELDS | fields), x, T)
