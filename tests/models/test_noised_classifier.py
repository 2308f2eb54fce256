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
def test_classifier_equals_the_reference(fields, attentive, heads):
    module = NoisedClassifier(**FIELDS | fields)
    params = initialised(module, X, T)
    wanted = reference.noised_classifier(
        params, X.astype(np.float64), T, levels=2, res_blocks=1, attentive=attentive, heads=heads, groups=4,
        scale_shift=True,
    )  # fmt: skip
    found = applied(module, params)
    assert found.shape == (2, 5) and found.dtype == jnp.float32
    np.testing.assert_allclose(found, wanted, atol=TOLERANCE)
    for other in (applied(module, params, -X), applied(module, params, t=T + 40)):
        assert np.all(np.abs(other - wanted).max(axis=1) > 10 * TOLERANCE)


def test_the_pool_knows_where_a_pixel_stands():
    x = RANDOM.standard_normal((1, 2, 2, 8)).astype(np.float32)
    module = AttentionPool(features=3, heads=2)
    params = initialised(module, x)
    apply = jit(lambda p, x: module.apply({"params": p}, x))
    found = apply(params, x)
    np.testing.assert_allclose(found, reference.attention_pool(params, x.astype(np.float64), 2), atol=TOLERANCE)
    assert np.abs(apply(params, x[:, ::-1]) - found).max() > 10 * TOLERANCE
    nowhere = params | {"positional_embedding": np.zeros((5, 8), np.float32)}
    np.testing.assert_allclose(apply(nowhere, x[:, ::-1]), apply(nowhere, x), atol=TOLERANCE)


def test_time_embedding_and_pool_are_float32_at_any_compute_dtype():
    module = NoisedClassifier(**FIELDS, dtype=jnp.bfloat16)
    params = jax.eval_shape(module.init, jax.random.key(0), X, T)
    types = products(jit(module.apply).lower(params, X, T).as_text())
    # Two layers of the time embedding; of the pool qkv, both products of its attention, and the logits.
    assert types.count(("f32", "f32")) == 2 + 4
    assert types.count(("bf16", "bf16")) == len(types) - 6 > 0
    assert jax.eval_shape(module.apply, params, X, T).dtype == jnp.float32


def test_remat_wraps_every_block():
    module = NoisedClassifier(**FIELDS, remat=True)
    params = jax.eval_shape(module.init, jax.random.key(0), X, T)
    # Blocks: two down and one between them, two in the middle. Attention: one down, one in the middle.
    assert str(jax.make_jaxpr(module.apply)(params, X, T)).count("prevent_cse") == 5 + 2
    assert "prevent_cse" not in str(jax.make_jaxpr(module.clone(remat=False).apply)(params, X, T))


@pytest.mark.parametrize(
    ("fields", "x", "message"),
    [
        ({}, X[:, :4], "pictures are 4 x 8, and image_size is 8"),
        ({}, X[..., :2], "pictures have 2 channels, and in_channels is 3"),
        ({"head_channels": 12}, X, "head_channels 12 does not divide a level's 16 channels"),
        ({"attention_resolutions": (), "num_heads": 3}, X, "num_heads 3 does not divide a level's 16 channels"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(fields, x, message):
    with pytest.raises(ValueError, match=message):
        initialised(NoisedClassifier(**FIELDS | fields), x, T)
