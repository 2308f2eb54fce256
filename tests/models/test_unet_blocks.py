import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import reference_networks as reference
from tests.quick import jit
from tests.randomised import initialised
from unclip_jax.models.unet_blocks import AttentionBlock, ResBlock, doubled, halved

RANDOM = np.random.default_rng(0)
X = RANDOM.standard_normal((2, 4, 6, 8)).astype(np.float32)
EMBEDDING = RANDOM.standard_normal((2, 10)).astype(np.float32)
CONTEXT = RANDOM.standard_normal((2, 3, 5)).astype(np.float32)
MASK = np.array([[1, 1, 0], [1, 1, 1]], bool)
TOLERANCE = 3e-5


def applied(module, params, *args):
    return jit(lambda p, *a: module.apply({"params": p}, *a))(params, *args)


def test_halving_averages_and_doubling_repeats():
    x = jnp.arange(8.0).reshape(1, 2, 4, 1)
    np.testing.assert_array_equal(halved(x)[0, :, :, 0], [[2.5, 4.5]])
    np.testing.assert_array_equal(doubled(x[:, :1, :2])[0, :, :, 0], [[0, 0, 1, 1], [0, 0, 1, 1]])


@pytest.mark.parametrize("scale_shift", [True, False])
@pytest.mark.parametrize(("resample", "channels"), [(None, 8), (None, 12), ("down", 8), ("up", 12)])
def test_residual_block_equals_the_reference(scale_shift, resample, channels):
    module = ResBlock(channels, resample, scale_shift, groups=4)
    params = initialised(module, X, EMBEDDING)
    resampling = {None: lambda x: x, "down": reference.down, "up": reference.up}[resample]
    wanted = reference.res_block(params, X.astype(np.float64), EMBEDDING, 4, scale_shift, resampling)
    np.testing.assert_allclose(applied(module, params, X, EMBEDDING), wanted, atol=TOLERANCE)
    for other in (applied(module, params, -X, EMBEDDING), applied(module, params, X, -EMBEDDING)):
        assert np.abs(other - wanted).max() > 10 * TOLERANCE


@pytest.mark.parametrize("context", [None, CONTEXT])
def test_attention_block_equals_the_reference(context):
    module = AttentionBlock(heads=2, groups=4)
    mask = None if context is None else MASK
    args = (X,) if context is None else (X, context, mask)
    params = initialised(module, *args)
    wanted = reference.attention_block(params, X.astype(np.float64), 2, 4, context, mask)
    np.testing.assert_allclose(applied(module, params, *args), wanted, atol=TOLERANCE)
    assert np.abs(applied(module, params, -X, *args[1:]) - wanted).max() > 10 * TOLERANCE
    if context is not None:
        assert np.abs(applied(module, params, X, -context, mask) - wanted).max() > 10 * TOLERANCE
        assert np.abs(applied(module, params, X, context)[0] - wanted[0]).max() > 10 * TOLERANCE


def test_masked_context_changes_nothing():
    module = AttentionBlock(heads=2, groups=4)
    params = initialised(module, X, CONTEXT, MASK)
    found = applied(module, params, X, CONTEXT, MASK)
    other = applied(module, params, X, np.where(MASK[..., None], CONTEXT, 9.0), MASK)
    np.testing.assert_allclose(other, found, atol=1e-6)
    assert np.abs(applied(module, params, X, np.where(MASK[..., None], 9.0, CONTEXT), MASK) - found).max() > 1e-3


def test_dropout_drops_in_training_alone():
    quiet = ResBlock(8, groups=4, dropout=0.5)
    params = initialised(quiet, X, EMBEDDING)
    loud = quiet.clone(deterministic=False)
    dropped = jit(lambda key: loud.apply({"params": params}, X, EMBEDDING, rngs={"dropout": key}))

    def drawn(seed):
        return dropped(jax.random.key(seed))

    np.testing.assert_array_equal(drawn(0), drawn(0))
    assert np.abs(drawn(0) - drawn(1)).max() > 1e-2
    undropped = applied(quiet.clone(dropout=0.0), params, X, EMBEDDING)
    np.testing.assert_array_equal(applied(quiet, params, X, EMBEDDING), undropped)
    assert np.abs(drawn(0) - undropped).max() > 1e-2
