import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import reference_networks as reference
from tests.quick import jit
from tests.randomised import initialised
from unclip_jax.models.unet_blocks import AttentionBlock, ResBlock, average_pool_2x, upsample_nearest_2x

RANDOM = np.random.default_rng(0)
X = RANDOM.standard_normal((2, 4, 6, 8)).astype(np.float32)
EMBEDDING = RANDOM.standard_normal((2, 10)).astype(np.float32)
CONTEXT = RANDOM.standard_normal((2, 3, 5)).astype(np.float32)
MASK = np.array([[1, 1, 0], [1, 1, 1]], bool)
TOLERANCE = 3e-5


def applied(module, params, *args):
    return jit(lambda p, *a: module.apply({"params": p}, *a))(params, *args)


def test_average_pool_2x_and_upsample_nearest_2x():
    x = jnp.arange(8.0).reshape(1, 2, 4, 1)
    np.testing.assert_array_equal(average_pool_2x(x)[0, :, :, 0], [[2.5, 4.5]])
    np.testing.assert_array_equal(upsample_nearest_2x(x[:, :1, :2])[0, :, :, 0], [[0, 0, 1, 1], [0, 0, 1, 1]])


@pytest.mark.parametrize("scale_shift", [True, False])
@pytest.mark.parametrize(("resample", "channels"), [(None, 8), (None, 12), ("down", 8), ("up", 12)])
def test_residual_block_matches_the_reference(scale_shift, resample, channels):
    module = ResBlock(channels, resample, scale_shift, groups=4)
    params = initialised(module, X, EMBEDDING)
    resampling = {None: lambda x: x, "down": reference.down, "up": reference.up}[resample]
    expected = reference.res_block(params, X.astype(np.float64), EMBEDDING, 4, scale_shift, resampling)
    np.testing.assert_allclose(applied(module, params, X, EMBEDDING), expected, atol=TOLERANCE)
    for other in (applied(module, params, -X, EMBEDDING), applied(module, params, X, -EMBEDDING)):
        assert np.abs(other - expected).max() > 10 * TOLERANCE


@pytest.mark.parametrize("context", [None, CONTEXT])
def test_attention_block_matches_the_reference(context):
    module = AttentionBlock(heads=2, groups=4)
    mask = None if context is None else MASK
    args = (X,) if context is None else (X, context, mask)
    params = initialised(module, *args)
    expected = reference.attention_block(params, X.astype(np.float64), 2, 4, context, mask)
    np.testing.assert_allclose(applied(module, params, *args), expected, atol=TOLERANCE)
    assert np.abs(applied(module, params, -X, *args[1:]) - expected).max() > 10 * TOLERANCE
    if context is not None:
        assert np.abs(applied(module, params, X, -context, mask) - expected).max() > 10 * TOLERANCE
        assert np.abs(applied(module, params, X, context)[0] - expected[0]).max() > 10 * TOLERANCE


def test_attention_block_ignores_masked_context():
    module = AttentionBlock(heads=2, groups=4)
    params = initialised(module, X, CONTEXT, MASK)
    actual = applied(module, params, X, CONTEXT, MASK)
    other = applied(module, params, X, np.where(MASK[..., None], CONTEXT, 9.0), MASK)
    np.testing.assert_allclose(other, actual, atol=1e-6)
    assert np.abs(applied(module, params, X, np.where(MASK[..., None], 9.0, CONTEXT), MASK) - actual).max() > 1e-3


def test_dropout_is_active_only_in_training():
    evaluating = ResBlock(8, groups=4, dropout=0.5)
    params = initialised(evaluating, X, EMBEDDING)
    training = evaluating.clone(deterministic=False)
    dropped = jit(lambda key: training.apply({"params": params}, X, EMBEDDING, rngs={"dropout": key}))

    def output(seed):
        return dropped(jax.random.key(seed))

    np.testing.assert_array_equal(output(0), output(0))
    assert np.abs(output(0) - output(1)).max() > 1e-2
    undropped = applied(evaluating.clone(dropout=0.0), params, X, EMBEDDING)
    np.testing.assert_array_equal(applied(evaluating, params, X, EMBEDDING), undropped)
    assert np.abs(output(0) - undropped).max() > 1e-2
