import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import reference_networks as reference
from tests.lowered_products import products
from tests.quick import jit
from tests.randomised import initialised
from unclip_jax import images
from unclip_jax.models.noised_clip import PIXEL_MEAN, PIXEL_STD, NoisedCLIP

EOT = 19
FIELDS = {
    "embed_dim": 12, "image_size": 8, "patch_size": 4, "image_width": 16, "image_layers": 2, "image_heads": 2,
    "vocab_size": 20, "context_length": 6, "text_width": 24, "text_layers": 2, "text_heads": 3, "noise_steps": 9,
}  # fmt: skip
X_T = 3.0 * np.random.default_rng(0).standard_normal((2, 8, 8, 3)).astype(
    np.float32
)  # exceeds [-1, 1], as noisy images do
T = np.array([8, 2])
TOKENS = np.array([[1, 5, 3, EOT, 0, 0], [1, 2, 7, 9, 4, EOT]], np.int32)
TOLERANCE = 2e-5


def test_noised_clip_matches_the_reference_and_depends_on_every_input():
    module = NoisedCLIP(**FIELDS)
    params = initialised(module, X_T, T, TOKENS)
    apply = jit(lambda x_t, t, tokens: module.apply({"params": params}, x_t, t, tokens))
    image, text = apply(X_T, T, TOKENS)
    pixels = ((X_T + 1.0) / 2.0 - np.array(images.CLIP_MEAN)) / np.array(images.CLIP_STD)
    steps = params["image"]["step_embedding"]["embedding"][T]
    expected = reference.vit(params["image"], pixels, 4, 2, reference.gelu, first=steps)
    pooled, _ = reference.text_tower(params["text"], TOKENS, 3, reference.gelu)
    np.testing.assert_allclose(image, expected, atol=TOLERANCE)
    np.testing.assert_allclose(text.pooled, pooled, atol=TOLERANCE)
    assert image.dtype == text.pooled.dtype == jnp.float32
    for other in (apply(-X_T, T, TOKENS)[0], apply(X_T, T[::-1], TOKENS)[0], apply(X_T.clip(-1, 1), T, TOKENS)[0]):
        assert np.all(np.abs(other - image).max(axis=1) > 10 * TOLERANCE)
    other_padding = np.where(TOKENS == 0, 8, TOKENS)
    np.testing.assert_allclose(apply(X_T, T, other_padding)[1].pooled, text.pooled, atol=TOLERANCE)
    assert np.all(np.abs(apply(X_T, T, np.roll(TOKENS, 1, axis=1))[1].pooled - pooled).max(axis=1) > 10 * TOLERANCE)


def test_noised_clip_normalizes_pixels_by_clip_statistics():
    np.testing.assert_allclose(np.array(PIXEL_MEAN) / 255, images.CLIP_MEAN, atol=1e-7)
    np.testing.assert_allclose(np.array(PIXEL_STD) / 255, images.CLIP_STD, atol=1e-7)


def test_noised_clip_computes_in_bfloat16_and_returns_float32():
    module = NoisedCLIP(**FIELDS, dtype=jnp.bfloat16)
    params = jax.eval_shape(module.init, jax.random.key(0), X_T, T, TOKENS)
    assert set(products(jit(module.apply).lower(params, X_T, T, TOKENS).as_text())) == {("bf16", "bf16")}
    image, text = jax.eval_shape(module.apply, params, X_T, T, TOKENS)
    assert image.dtype == text.pooled.dtype == jnp.float32


def test_noised_clip_remat_wraps_the_blocks_of_both_encoders():
    module = NoisedCLIP(**FIELDS, remat=True)
    params = jax.eval_shape(module.init, jax.random.key(0), X_T, T, TOKENS)
    assert str(jax.make_jaxpr(module.apply)(params, X_T, T, TOKENS)).count("prevent_cse") == 2


def test_noised_clip_rejects_images_of_another_size():
    with pytest.raises(ValueError, match=r"pixels must have shape \[B, 8, 8, 3\], got \[2, 4, 8, 3\]"):
        initialised(NoisedCLIP(**FIELDS), X_T[:, :4], T, TOKENS)
