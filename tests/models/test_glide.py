import jax.numpy as jnp
import numpy as np
import pytest

from tests import reference_networks as reference
from tests.quick import jit
from tests.randomised import initialised
from unclip_jax.models.glide import Glide

FIELDS = {
    "image_size": 4, "channels": 8, "channel_mult": (1, 2), "res_blocks": 1, "attention_resolutions": (2,),
    "head_channels": 8, "vocab_size": 11, "context_length": 5, "text_width": 12, "text_layers": 2, "text_heads": 3,
    "groups": 4,
}  # fmt: skip
UNET = {
    "levels": 2, "res_blocks": 1, "attentive": (1,), "heads": lambda channels: channels // 8, "groups": 4,
    "scale_shift": True,
}  # fmt: skip
RANDOM = np.random.default_rng(0)
X_T = RANDOM.standard_normal((2, 4, 4, 3)).astype(np.float32)
T = np.array([3, 700])
Z = RANDOM.standard_normal((2, 6)).astype(np.float32)
TOKENS = np.array([[1, 2, 3, 0, 0], [4, 5, 6, 7, 8]])
MASK = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], bool)
EXTRA = RANDOM.standard_normal((2, 4, 4, 4)).astype(np.float32)
EVERYWHERE = np.ones((2, 5, 5), bool)
TOLERANCE = 5e-5


def text_sequence(p):
    x = p["token_embedding"]["embedding"][TOKENS].astype(np.float64) + p["positional_embedding"]
    for row, column in zip(*np.nonzero(~MASK), strict=True):
        x[row, column] = p["padding_embedding"][column]
    return reference.layer_norm(
        p["norm_final"], reference.transformer(p["transformer"], x, 3, EVERYWHERE, reference.gelu)
    )


def test_glide_matches_the_reference_and_depends_on_every_condition():
    module = Glide(**FIELDS, in_channels=7)
    params = initialised(module, X_T, T, TOKENS, MASK, extra_channels=EXTRA)
    apply = jit(
        lambda x, t, tokens, mask, extra: module.apply({"params": params}, x, t, tokens, mask, extra_channels=extra)
    )
    sequence = text_sequence(params["text"])
    expected = reference.unet(
        params["unet"], np.concatenate([X_T, EXTRA], axis=-1).astype(np.float64), T,
        embedding=reference.dense(params["text_to_time"], sequence[:, -1]),
        context=sequence, mask=np.ones((2, 5), bool), **UNET,
    )  # fmt: skip
    actual = apply(X_T, T, TOKENS, MASK, EXTRA)
    assert actual.shape == (2, 4, 4, 6) and actual.dtype == jnp.float32
    np.testing.assert_allclose(actual, expected, atol=TOLERANCE)
    other_padding = np.where(MASK, TOKENS, 9)
    np.testing.assert_allclose(apply(X_T, T, other_padding, MASK, EXTRA), actual, atol=1e-6)
    for other in (
        apply(-X_T, T, TOKENS, MASK, EXTRA),
        apply(X_T, T + 40, TOKENS, MASK, EXTRA),
        apply(X_T, T, TOKENS[:, ::-1], MASK, EXTRA),
        apply(X_T, T, TOKENS, MASK, -EXTRA),
    ):
        assert np.all(np.abs(other - actual).max(axis=(1, 2, 3)) > 10 * TOLERANCE)
    assert np.abs(apply(X_T, T, TOKENS, ~MASK, EXTRA) - actual).max() > 10 * TOLERANCE


def test_unclip_decoder_adds_the_image_embedding_to_time_and_tokens():
    module = Glide(**FIELDS, embed_dim=6, image_tokens=2)
    params = initialised(module, X_T, T, TOKENS, MASK, image_embedding=Z)
    apply = jit(
        lambda z, drop: module.apply({"params": params}, X_T, T, TOKENS, MASK, image_embedding=z, drop_image=drop)
    )

    def expected(z):
        sequence, tokens = text_sequence(params["text"]), params["image_to_tokens"]
        image_tokens = [z @ tokens["kernel"][:, :, i] + tokens["bias"][:, i] for i in range(2)]
        time = reference.dense(params["text_to_time"], sequence[:, -1]) + reference.dense(params["image_to_time"], z)
        context = np.concatenate([np.stack(image_tokens, axis=1), sequence], axis=1)
        return reference.unet(
            params["unet"],
            X_T.astype(np.float64),
            T,
            embedding=time,
            context=context,
            mask=np.ones((2, 7), bool),
            **UNET,
        )

    actual = apply(Z, np.zeros(2, bool))
    np.testing.assert_allclose(actual, expected(Z), atol=TOLERANCE)
    dropped = apply(Z, np.array([True, False]))
    np.testing.assert_allclose(dropped, expected(np.stack([params["null_image"], Z[1]])), atol=TOLERANCE)
    assert np.abs(dropped[0] - actual[0]).max() > 10 * TOLERANCE


@pytest.mark.parametrize(
    ("fields", "tokens", "inputs", "message"),
    [
        ({}, TOKENS[:, :3], {}, "tokens must be padded to context_length=5, got 3"),
        ({}, TOKENS, {"image_embedding": Z}, "image_embedding and embed_dim must be set together"),
        ({"embed_dim": 6}, TOKENS, {}, "image_embedding and embed_dim must be set together"),
        ({}, TOKENS, {"extra_channels": EXTRA}, "must have 3 channels .*, got 7"),
    ],
)
def test_glide_rejects_inconsistent_inputs(fields, tokens, inputs, message):
    with pytest.raises(ValueError, match=message):
        initialised(Glide(**FIELDS | fields), X_T, T, tokens, MASK[:, : tokens.shape[1]], **inputs)
