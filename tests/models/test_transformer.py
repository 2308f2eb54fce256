import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import reference_networks as reference
from tests.quick import jit
from tests.randomised import initialised
from unclip_jax.models.transformer import Transformer

ROWS, LENGTH, WIDTH, HEADS = 2, 5, 16, 2


def sequence(seed=0):
    return np.random.default_rng(seed).standard_normal((ROWS, LENGTH, WIDTH)).astype(np.float32)


def applied(module, params, x, mask=None):
    return jit(lambda p, x, mask: module.apply({"params": p}, x, mask))(params, x, mask)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("activation", ["gelu", "quick_gelu"])
def test_three_layers_equal_the_reference(causal, activation):
    module = Transformer(3, HEADS, 2.5, activation, causal=causal)
    x, other = sequence(), sequence(1)
    params = initialised(module, x)
    mask = np.ones((ROWS, 1, 1, LENGTH), bool)
    mask[1, ..., 3] = False
    seen = np.broadcast_to(mask[:, 0], (ROWS, LENGTH, LENGTH))
    seen = seen & np.tri(LENGTH, dtype=bool) if causal else seen
    found = applied(module, params, x, mask)
    wanted = reference.transformer(params, x.astype(np.float64), HEADS, seen, getattr(reference, activation))
    np.testing.assert_allclose(found, wanted, atol=2e-5)
    assert np.abs(applied(module, params, other, mask) - wanted).max() > 2e-4
    assert np.abs(applied(module, params, x)[1] - wanted[1]).max() > 2e-4  # without the mask


def test_a_causal_token_depends_on_itself_and_earlier_tokens_alone():
    module, x = Transformer(2, HEADS, causal=True), sequence()
    params = initialised(module, x)
    jacobian = jit(jax.jacrev(lambda x: module.apply({"params": params}, x)[0].sum(-1)))(x)[:, 0]
    influence = np.abs(jacobian).max(-1)  # [token of the answer, token of the input]
    assert np.all(influence[np.triu_indices(LENGTH, 1)] == 0.0)
    assert np.all(influence[np.tril_indices(LENGTH)] > 1e-3)


def test_a_query_that_may_see_nothing_stays_finite():
    module, x = Transformer(1, HEADS), sequence()
    params = initialised(module, x)
    assert np.isfinite(applied(module, params, x, np.zeros((ROWS, 1, 1, LENGTH), bool))).all()


def test_remat_changes_no_gradient():
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


def test_bfloat16_stays_near_float32():
    x = sequence()
    params = initialised(Transformer(2, HEADS), x)
    low = applied(Transformer(2, HEADS, dtype=jnp.bfloat16), params, x)
    full = applied(Transformer(2, HEADS), params, x)
    assert low.dtype == jnp.bfloat16
    error = np.abs(low.astype(np.float32) - full).max()
    assert 0.0 < error < 0.1 < np.abs(applied(Transformer(2, HEADS), params, sequence(1)) - full).max() / 10


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValueError, match="heads 3 does not divide the width 16"):
        initialised(Transformer(1, 3), sequence())
