import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import reference_networks as reference
from tests.quick import jit
from tests.randomised import initialised
from unclip_jax.models.diffusion_prior import DiffusionPrior
from unclip_jax.models.text_features import TextFeatures

MODULE = DiffusionPrior(embed_dim=6, text_width=10, context_length=5, width=16, layers=2, heads=2)
RANDOM = np.random.default_rng(0)
Z_T = RANDOM.standard_normal((2, 6)).astype(np.float32)
T = np.array([3, 700])
TEXT = TextFeatures(
    pooled=RANDOM.standard_normal((2, 6)).astype(np.float32),
    sequence=RANDOM.standard_normal((2, 5, 10)).astype(np.float32),
    mask=np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], bool),
)
PARAMS = initialised(MODULE, Z_T, T, TEXT)
apply = jit(lambda z_t, t, text: MODULE.apply({"params": PARAMS}, z_t, t, text))


def test_prior_matches_the_reference_and_depends_on_every_input():
    expected = reference.prior(PARAMS, Z_T, T, TEXT.pooled, TEXT.sequence, TEXT.mask, heads=2)
    tolerance = 2e-5
    np.testing.assert_allclose(apply(Z_T, T, TEXT), expected, atol=tolerance)
    for other in (
        apply(-Z_T, T, TEXT),
        apply(Z_T, T + 40, TEXT),
        apply(Z_T, T, TEXT.replace(pooled=-TEXT.pooled)),
        apply(Z_T, T, TEXT.replace(sequence=-TEXT.sequence)),
    ):
        assert np.all(np.abs(other - expected).max(axis=-1) > 10 * tolerance)
    unmasked = apply(Z_T, T, TEXT.replace(mask=np.ones((2, 5), bool)))
    assert np.abs(unmasked[0] - expected[0]).max() > 10 * tolerance


def test_prior_ignores_caption_padding():
    padding = np.where(TEXT.mask[..., None], TEXT.sequence, 9.0)
    np.testing.assert_allclose(apply(Z_T, T, TEXT.replace(sequence=padding)), apply(Z_T, T, TEXT), atol=1e-6)
    caption = TEXT.sequence.copy()
    caption[0, 2] = 9.0
    moved = np.abs(apply(Z_T, T, TEXT.replace(sequence=caption)) - apply(Z_T, T, TEXT)).max(axis=-1)
    assert moved[0] > 1e-3 and moved[1] < 1e-6


def test_prior_output_depends_on_every_parameter():
    weights = RANDOM.standard_normal((2, 6))
    gradients = jit(jax.grad(lambda p: jnp.sum(weights * MODULE.apply({"params": p}, Z_T, T, TEXT))))(PARAMS)
    flat = jax.tree_util.tree_leaves_with_path(gradients)
    assert [jax.tree_util.keystr(path) for path, gradient in flat if np.abs(gradient).max() < 1e-3] == []


def test_prior_output_is_float32_for_any_compute_dtype():
    low = jit(MODULE.clone(dtype=jnp.bfloat16).apply)({"params": PARAMS}, Z_T, T, TEXT)
    assert low.dtype == jnp.float32
    np.testing.assert_allclose(low, apply(Z_T, T, TEXT), atol=0.1)


@pytest.mark.parametrize(
    ("z_t", "text", "message"),
    [
        (Z_T[:, :5], TEXT, r"z_t must have shape \['B', 6\], got \['B', 5\]"),
        (
            Z_T,
            TEXT.replace(sequence=TEXT.sequence[:, :4]),
            r"text.sequence must have shape \['B', 5, 10\], got \['B', 4, 10\]",
        ),
        (Z_T, TEXT.replace(mask=TEXT.mask[:, :4]), r"text.mask must have shape \['B', 5\], got \['B', 4\]"),
    ],
)
def test_prior_rejects_inputs_of_wrong_shape(z_t, text, message):
    with pytest.raises(ValueError, match=message):
        MODULE.apply({"params": PARAMS}, z_t, T, text)
