import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import reference_networks as reference
from tests.quick import jit
from tests.randomised import initialised
from unclip_jax.models.transformer import Transformer, attend

ROWS, LENGTH, WIDTH, HEADS = 2, 5, 16, 2


def sequence(seed=0):
    return np.random.default_rng(seed).standard_normal((ROWS, LENGTH, WIDTH)).astype(np.float32)


def applied(module, params, x, mask=None):
    return jit(lambda p, x, mask: module.apply({"params": p}, x, mask))(params, x, mask)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("activation", ["gelu", "quick_gelu"])
def test_transformer_matches_the_reference(causal, activation):
    module = Transformer(3, HEADS, 2.5, activation, causal=causal)
    x, other = sequence(), sequence(1)
    params = initialised(module, x)
    mask = np.ones((ROWS, 1, 1, LENGTH), bool)
    mask[1, ..., 3] = False
    visible = np.broadcast_to(mask[:, 0], (ROWS, LENGTH, LENGTH))
    visible = visible & np.tri(LENGTH, dtype=bool) if causal else visible
    actual = applied(module, params, x, mask)
    expected = reference.transformer(params, x.astype(np.float64), HEADS, visible, getattr(reference, activation))
    np.testing.assert_allclose(actual, expected, atol=2e-5)
    assert np.abs(applied(module, params, other, mask) - expected).max() > 2e-4
    assert np.abs(applied(module, params, x)[1] - expected[1]).max() > 2e-4  # without the mask


def test_causal_token_depends_only_on_itself_and_earlier_tokens():
    module, x = Transformer(2, HEADS, causal=True), sequence()
    params = initialised(module, x)
    jacobian = jit(jax.jacrev(lambda x: module.apply({"params": params}, x)[0].sum(-1)))(x)[:, 0]
    influence = np.abs(jacobian).max(-1)  # [output token, input token]
    assert np.all(influence[np.triu_indices(LENGTH, 1)] == 0.0)
    assert np.all(influence[np.tril_indices(LENGTH)] > 1e-3)


def test_attention_of_a_fully_masked_query_is_finite():
    module, x = Transformer(1, HEADS), sequence()
    params = initialised(module, x)
    assert np.isfinite(applied(module, params, x, np.zeros((ROWS, 1, 1, LENGTH), bool))).all()


def test_remat_does_not_change_gradients():
    x = sequence()
    params = initialised(Transformer(2, HEADS), x)

    def gradient(remat):
        module = Transformer(2, HEADS, remat=remat)
        return jit(jax.grad(lambda p, x: jnp.sum(module.apply({"params": p}, x) ** 2)))

    assert "prevent_cse" in str(gradient(True).trace(params, x).jaxpr)
    plain, saved, other = gradient(False)(params, x), gradient(True)(params, x), gradient(True)(params, sequence(1))
    for a, b, c in zip(*map(jax.tree.leaves, (plain, saved, other)), strict=True):
        tolerance = 1e-5 * np.abs(a).max()
        np.testing.assert_allclose(a, b, atol=tolerance)
        assert np.abs(a - c).max() > 10 * tolerance


def test_transformer_in_bfloat16_is_close_to_float32():
    x = sequence()
    params = initialised(Transformer(2, HEADS), x)
    low = applied(Transformer(2, HEADS, dtype=jnp.bfloat16), params, x)
    full = applied(Transformer(2, HEADS), params, x)
    assert low.dtype == jnp.bfloat16
    error = np.abs(low.astype(np.float32) - full).max()
    assert 0.0 < error < 0.1 < np.abs(applied(Transformer(2, HEADS), params, sequence(1)) - full).max() / 10


def test_transformer_rejects_heads_that_do_not_divide_the_width():
    with pytest.raises(ValueError, match="heads must divide the width 16, got 3"):
        initialised(Transformer(1, 3), sequence())


def test_cudnn_attention_receives_the_arguments_of_the_own_implementation(monkeypatch):
    """The call is forwarded to the portable implementation of JAX, because cuDNN needs a GPU."""
    library, requested = jax.nn.dot_product_attention, []

    def forward(*arrays, implementation, **arguments):
        requested.append(implementation)
        return library(*arrays, **arguments)

    monkeypatch.setattr(jax.nn, "dot_product_attention", forward)
    q, k, v = (jax.random.normal(key, (2, 5, 3, 8)) for key in jax.random.split(jax.random.key(0), 3))
    mask = jnp.arange(5)[None, None, None] < jnp.array([5, 2])[:, None, None, None]
    fused = attend(q, k, v, mask, implementation="cudnn")
    np.testing.assert_allclose(fused, attend(q, k, v, mask), atol=2e-6)
    assert requested == ["cudnn"]
    with pytest.raises(ValueError, match="implementation must be 'xla' or 'cudnn', got 'flash'"):
        attend(q, k, v, mask, implementation="flash")
