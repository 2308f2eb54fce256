import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import reference_networks as reference
from tests.quick import jit
from tests.randomised import initialised
from unclip_jax.models.clip import CLIP, ImageTower, TextTower

EOT = 19
CLIP_FIELDS = {
    "embed_dim": 12, "image_size": 8, "patch_size": 4, "image_width": 16, "image_layers": 2, "image_heads": 2,
    "vocab_size": 20, "context_length": 7, "text_width": 24, "text_layers": 2, "text_heads": 3,
}  # fmt: skip
PIXELS = np.random.default_rng(0).standard_normal((2, 8, 8, 3)).astype(np.float32)
TOKENS = np.array([[1, 5, 3, EOT, 0, 0, 0], [1, 2, 7, 9, 4, EOT, EOT]], np.int32)


def clip(**fields):
    return CLIP(**CLIP_FIELDS | fields)


def params_of(module):
    return initialised(module, PIXELS, TOKENS)


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_clip_matches_the_reference(activation):
    module = clip(activation=activation)
    params = params_of(module)
    apply = jit(lambda p, pixels, tokens: module.apply({"params": p}, pixels, tokens))
    image, text, _ = apply(params, PIXELS, TOKENS)
    act = getattr(reference, activation)
    pooled, sequence = reference.text_tower(params["text"], TOKENS, 3, act)
    image_expected = reference.vit(params["image"], PIXELS.astype(np.float64), 4, 2, act)
    other_image, other_text, _ = apply(params, np.flip(PIXELS, axis=2), np.where(TOKENS == 5, 6, TOKENS))
    for actual, expected, other in (
        (image, image_expected, other_image),
        (text.pooled[:1], pooled[:1], other_text.pooled[:1]),
        (text.sequence[:1], sequence[:1], other_text.sequence[:1]),
    ):
        np.testing.assert_allclose(actual, expected, atol=2e-5)
        assert np.abs(other - expected).max() > 2e-4
    np.testing.assert_allclose(text.pooled[1], pooled[1], atol=2e-5)


def test_clip_text_mask_and_pooling_end_at_the_end_of_text_token():
    module = clip()
    params = params_of(module)
    text = jit(lambda tokens: module.apply({"params": params}, tokens, method="encode_text"))(TOKENS)
    np.testing.assert_array_equal(text.mask, [[1, 1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 1, 0]])
    kernel = params["text"]["projection"]["kernel"]
    np.testing.assert_allclose(text.pooled, text.sequence[jnp.arange(2), jnp.array([3, 5])] @ kernel, atol=1e-5)
    assert np.abs(text.pooled[1] - text.sequence[1, 6] @ kernel).max() > 1e-3


def test_clip_text_tokens_do_not_affect_earlier_tokens():
    module = TextTower(12, 20, 7, 24, 2, 3)
    tokens = jnp.arange(1, 8)[None]  # all tokens differ, so that the gradient of the embedding separates them
    params = initialised(module, tokens)

    def summed(embedding):
        moved = params | {"token_embedding": {"embedding": embedding}}
        return module.apply({"params": moved}, tokens).sequence[0] @ jnp.arange(1.0, 25.0)

    jacobian = jit(jax.jacrev(summed))(params["token_embedding"]["embedding"])[:, 1:8]
    influence = np.abs(jacobian).max(-1)  # [output token, input token]
    assert np.all(influence[np.triu_indices(7, 1)] == 0.0)
    assert np.all(influence[np.tril_indices(7)] > 1e-3)


def test_clip_text_features_ignore_padding():
    module = clip()
    params = params_of(module)
    encode = jit(lambda tokens: module.apply({"params": params}, tokens, method="encode_text"))
    text, padded = encode(TOKENS), encode(np.where(np.arange(7) > 3, 8, TOKENS)[:1].repeat(2, axis=0))
    np.testing.assert_allclose(padded.pooled[0], text.pooled[0], atol=1e-6)
    np.testing.assert_allclose(padded.sequence[0, :4], text.sequence[0, :4], atol=1e-6)
    np.testing.assert_array_equal(padded.mask[0], text.mask[0])
    assert np.abs(padded.sequence[0, 4:] - text.sequence[0, 4:]).min(axis=-1).max() > 1e-5
    shorter = encode(TOKENS[:, :6])
    np.testing.assert_allclose(shorter.pooled, text.pooled, atol=1e-6)
    assert np.abs(encode(np.where(TOKENS == 3, 4, TOKENS)).pooled[0] - text.pooled[0]).max() > 1e-3


def test_logit_scale_is_initialized_to_the_inverse_temperature_and_capped_at_100():
    module = clip()
    params = params_of(module)

    def scale(parameter):
        return module.apply({"params": params | {"logit_scale": parameter}}, PIXELS, TOKENS)[2]

    initial = jit(lambda key: module.init(key, PIXELS, TOKENS)["params"]["logit_scale"])(jax.random.key(0))
    np.testing.assert_allclose(jit(scale)(initial), 1 / 0.07, rtol=1e-6)
    assert jit(scale)(jnp.float32(5.0)) == 100.0


def test_clip_towers_can_be_used_separately():
    module = clip()
    params = params_of(module)
    image = jit(ImageTower(12, 8, 4, 16, 2, 2).apply)({"params": params["image"]}, PIXELS)
    text = jit(TextTower(12, 20, 7, 24, 2, 3).apply)({"params": params["text"]}, TOKENS).pooled
    both = jit(module.apply)({"params": params}, PIXELS, TOKENS)
    for alone, together in ((image, both[0]), (text, both[1].pooled)):
        np.testing.assert_allclose(alone, together, atol=1e-6)
        assert np.abs(alone[0] - alone[1]).max() > 1e-3


def test_clip_outputs_depend_on_every_parameter():
    module = clip()
    params = params_of(module)
    weights = np.random.default_rng(1).standard_normal((2, 12))

    def weighted_sum(p):
        image, text, scale = module.apply({"params": p}, PIXELS, TOKENS)
        return jnp.sum(weights * (image + text.pooled)) + scale

    flat = jax.tree_util.tree_leaves_with_path(jit(jax.grad(weighted_sum))(params))
    unused = [jax.tree_util.keystr(path) for path, gradient in flat if np.abs(gradient).max() < 1e-3]
    assert unused == []


def test_clip_features_are_float32_for_any_compute_dtype():
    module = clip(dtype=jnp.bfloat16)
    image, text, scale = jax.eval_shape(module.apply, {"params": params_of(module)}, PIXELS, TOKENS)
    assert {image.dtype, text.pooled.dtype, text.sequence.dtype, scale.dtype} == {jnp.dtype("float32")}


def test_clip_rejects_wrong_sizes():
    with pytest.raises(ValueError, match="patch_size must divide image_size=8, got 5"):
        params_of(clip(patch_size=5))
    with pytest.raises(ValueError, match=r"pixels must have shape \[B, 16, 16, 3\], got \[2, 8, 8, 3\]"):
        params_of(clip(image_size=16))
    with pytest.raises(ValueError, match=r"tokens must have length at most 6 \(context_length\), got 7"):
        params_of(clip(context_length=6))
