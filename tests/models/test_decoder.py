import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import reference_networks as reference
from tests.quick import jit
from tests.randomised import initialised
from unclip_jax.models.decoder import Decoder
from unclip_jax.models.text_features import TextFeatures

MODULE = Decoder(
    image_size=4, channels=8, channel_mult=(1, 2), res_blocks=1, attention_resolutions=(2,), head_channels=8,
    embed_dim=6, text_width=10, context_width=12, image_tokens=3, groups=4,
)  # fmt: skip
REFERENCE = {
    "image_tokens": 3, "levels": 2, "res_blocks": 1, "attentive": (1,), "heads": lambda channels: channels // 8,
    "groups": 4, "scale_shift": True,
}  # fmt: skip
RANDOM = np.random.default_rng(0)
X_T = RANDOM.standard_normal((2, 4, 4, 3)).astype(np.float32)
T = np.array([3, 700])
Z = RANDOM.standard_normal((2, 6)).astype(np.float32)
TEXT = TextFeatures(
    pooled=RANDOM.standard_normal((2, 6)).astype(np.float32),
    sequence=RANDOM.standard_normal((2, 5, 10)).astype(np.float32),
    mask=np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], bool),
)
PARAMS = initialised(MODULE, X_T, T, Z, TEXT)
KEPT = np.zeros(2, bool)
TOLERANCE = 5e-5
apply = jit(lambda x_t, t, z, text, drop: MODULE.apply({"params": PARAMS}, x_t, t, z, text, drop_image=drop))


def reference_output(z):
    sequence = TEXT.sequence.astype(np.float64)
    return reference.decoder(PARAMS, X_T.astype(np.float64), T, z, TEXT.pooled, sequence, TEXT.mask, **REFERENCE)


def test_decoder_matches_the_reference_and_depends_on_every_condition():
    expected = reference_output(Z)
    actual = apply(X_T, T, Z, TEXT, KEPT)
    assert actual.shape == (2, 4, 4, 6) and actual.dtype == jnp.float32
    np.testing.assert_allclose(actual, expected, atol=TOLERANCE)
    for other in (
        apply(-X_T, T, Z, TEXT, KEPT),
        apply(X_T, T + 40, Z, TEXT, KEPT),
        apply(X_T, T, -Z, TEXT, KEPT),
        apply(X_T, T, Z, TEXT.replace(pooled=-TEXT.pooled), KEPT),
        apply(X_T, T, Z, TEXT.replace(sequence=-TEXT.sequence), KEPT),
    ):
        assert np.all(np.abs(other - expected).max(axis=(1, 2, 3)) > 10 * TOLERANCE)


def test_decoder_replaces_dropped_image_embeddings_by_the_null_embedding():
    drop = np.array([True, False])
    actual = apply(X_T, T, Z, TEXT, drop)
    np.testing.assert_allclose(actual, reference_output(np.stack([PARAMS["null_image"], Z[1]])), atol=TOLERANCE)
    np.testing.assert_array_equal(apply(X_T, T, -Z, TEXT, drop)[0], actual[0])
    kept = apply(X_T, T, Z, TEXT, KEPT)
    assert np.abs(actual[0] - kept[0]).max() > 10 * TOLERANCE
    np.testing.assert_array_equal(apply(X_T, T, Z, TEXT, None), kept)


def test_decoder_ignores_caption_padding():
    actual = apply(X_T, T, Z, TEXT, KEPT)
    padding = np.where(TEXT.mask[..., None], TEXT.sequence, 9.0)
    np.testing.assert_allclose(apply(X_T, T, Z, TEXT.replace(sequence=padding), KEPT), actual, atol=1e-6)
    caption = TEXT.sequence.copy()
    caption[0, 2] = 9.0
    moved = np.abs(apply(X_T, T, Z, TEXT.replace(sequence=caption), KEPT) - actual).max(axis=(1, 2, 3))
    assert moved[0] > 1e-3 and moved[1] < 1e-6


def test_decoder_uses_the_image_embedding_in_time_and_tokens():
    run = jit(lambda params, z: MODULE.apply({"params": params}, X_T, T, z, TEXT))
    for disabled in ("image_to_time", "image_to_tokens"):
        params = PARAMS | {disabled: jax.tree.map(np.zeros_like, PARAMS[disabled])}
        outputs = [run(params, z) for z in (Z, -Z)]
        assert np.abs(outputs[0] - outputs[1]).max() > 1e-3


def test_decoder_output_depends_on_every_parameter():
    weights = RANDOM.standard_normal((2, 4, 4, 6))
    drop = np.array([True, False])

    def weighted_sum(p):
        return jnp.sum(weights * MODULE.apply({"params": p}, X_T, T, Z, TEXT, drop_image=drop))

    flat = jax.tree_util.tree_leaves_with_path(jit(jax.grad(weighted_sum))(PARAMS))
    assert [jax.tree_util.keystr(path) for path, gradient in flat if np.abs(gradient).max() < 1e-3] == []


@pytest.mark.parametrize(
    ("z", "text", "message"),
    [
        (Z[:, :5], TEXT, "image_embedding must have width embed_dim=6, got 5"),
        (Z, TEXT.replace(pooled=TEXT.pooled[:, :4]), "text.pooled must have width embed_dim=6, got 4"),
        (Z, TEXT.replace(sequence=TEXT.sequence[..., :9]), "text.sequence must have width text_width=10, got 9"),
    ],
)
def test_decoder_rejects_conditions_of_wrong_width(z, text, message):
    with pytest.raises(ValueError, match=message):
        MODULE.apply({"params": PARAMS}, X_T, T, z, text)
