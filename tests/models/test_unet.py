import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import reference_networks as reference
from tests.quick import jit
from tests.randomised import initialised
from unclip_jax import parameters
from unclip_jax.models.unet import UNet

RANDOM = np.random.default_rng(0)
X = RANDOM.standard_normal((2, 8, 8, 3)).astype(np.float32)
T = np.array([3, 700])
CONTEXT = RANDOM.standard_normal((2, 3, 5)).astype(np.float32)
MASK = np.array([[1, 1, 0], [1, 1, 1]], bool)
FIELDS = {"image_size": 8, "channels": 8, "channel_mult": (1, 2), "res_blocks": 1, "groups": 4, "head_channels": 8}
TOLERANCE = 5e-5


def applied(module, params, x=X, t=T, **kwargs):
    return jit(lambda p, x, t, kwargs: module.apply({"params": p}, x, t, **kwargs))(params, x, t, kwargs)


@pytest.mark.parametrize(
    ("fields", "attentive", "heads"),
    [
        ({"scale_shift": False}, (), None),
        ({"attention_resolutions": (4,), "res_blocks": 2}, (1,), lambda channels: channels // 8),
        ({"attention_resolutions": (8, 4), "num_heads": 4}, (0, 1), lambda channels: 4),
    ],
)
def test_unet_matches_the_reference(fields, attentive, heads):
    module = UNet(**FIELDS | fields)
    params = initialised(module, X, T)
    shared = {"levels": 2, "res_blocks": module.res_blocks, "attentive": attentive, "heads": heads, "groups": 4}
    expected = reference.unet(params, X.astype(np.float64), T, scale_shift=module.scale_shift, **shared)
    np.testing.assert_allclose(applied(module, params), expected, atol=TOLERANCE)
    for other in (applied(module, params, -X), applied(module, params, t=T + 40)):
        assert np.abs(other - expected).max() > 10 * TOLERANCE


def test_unet_adds_labels_and_embedding_to_the_time_embedding():
    module = UNet(num_classes=3, **FIELDS)
    labels = np.array([0, 2])
    extra = RANDOM.standard_normal((2, 32)).astype(np.float32)
    params = initialised(module, X, T, labels=labels)
    shared = {"levels": 2, "res_blocks": 1, "attentive": (), "heads": None, "groups": 4, "scale_shift": True}
    embedding = params["label_embedding"]["embedding"][labels] + extra
    expected = reference.unet(params, X.astype(np.float64), T, embedding=embedding, **shared)
    np.testing.assert_allclose(applied(module, params, labels=labels, embedding=extra), expected, atol=TOLERANCE)
    assert np.abs(applied(module, params, labels=labels[::-1], embedding=extra) - expected).max() > 10 * TOLERANCE
    assert np.abs(applied(module, params, labels=labels, embedding=-extra) - expected).max() > 10 * TOLERANCE


def test_unet_concatenates_extra_channels_after_x():
    module = UNet(**FIELDS, in_channels=5)
    extra = RANDOM.standard_normal((2, 8, 8, 2)).astype(np.float32)
    both = np.concatenate([X, extra], axis=-1)
    params = initialised(module, both, T)
    expected = applied(module, params, both)
    np.testing.assert_array_equal(applied(module, params, extra_channels=extra), expected)
    assert np.abs(applied(module, params, extra_channels=-extra) - expected).max() > 10 * TOLERANCE


def test_unet_rejects_extra_channels_of_wrong_shape():
    extra = np.zeros((2, 8, 8, 2), np.float32)
    with pytest.raises(ValueError, match="must have 3 channels .*, got 5"):
        initialised(UNet(**FIELDS), X, T, extra_channels=extra)
    with pytest.raises(ValueError, match=r"extra_channels must have shape \[2, 8, 8, 'C'\], got \[2, 4, 8, 2\]."):
        initialised(UNet(**FIELDS, in_channels=5), X, T, extra_channels=extra[:, :4])


def test_unet_without_resblock_updown_resamples_by_convolutions():
    module = UNet(resblock_updown=False, **FIELDS)
    params = initialised(module, X, T)
    assert set(params["down_0_downsample"]) == set(params["up_1_upsample"]) == {"kernel", "bias"}
    down = reference.conv3x3(params["down_0_downsample"], X[..., :1].repeat(8, axis=-1).astype(np.float64), stride=2)
    assert down.shape == (2, 4, 4, 8)
    assert np.abs(applied(module, params) - applied(module, params, -X)).max() > 1e-2


def test_unet_without_attention_can_be_applied_to_another_size():
    module = UNet(**FIELDS)
    params = initialised(module, X, T)
    crop = applied(module, params, X[:, :4, :6])
    assert crop.shape == (2, 4, 6, 3)
    shared = {"levels": 2, "res_blocks": 1, "attentive": (), "heads": None, "groups": 4, "scale_shift": True}
    expected = reference.unet(params, X[:, :4, :6].astype(np.float64), T, **shared)
    np.testing.assert_allclose(crop, expected, atol=TOLERANCE)
    assert np.abs(crop - crop[:, ::-1]).max() > 10 * TOLERANCE


@pytest.mark.parametrize(("size", "attentive"), [((16, 24), 1), ((24, 16), 1), ((32, 16), 1), ((8, 24), 0)])
def test_attention_resolutions_refer_to_the_shorter_side(size, attentive):
    module = UNet(**FIELDS | {"image_size": size, "attention_resolutions": (8,)})
    inputs = module.example_inputs()
    assert inputs["x"].shape == (1, *size, 3)
    params = initialised(module, **inputs)
    assert [level for level in range(2) if f"down_{level}_attention_0" in params] == [attentive]


def test_non_square_unet_equals_the_square_unet_of_its_shorter_side():
    module = UNet(**FIELDS | {"image_size": (16, 24), "attention_resolutions": (8,)})
    params = initialised(module, **module.example_inputs())
    x = RANDOM.standard_normal((2, 16, 24, 3)).astype(np.float32)
    actual = applied(module, params, x)
    assert actual.shape == (2, 16, 24, 3)
    np.testing.assert_array_equal(applied(module.clone(image_size=16), params, x), actual)
    np.testing.assert_array_equal(applied(module.clone(image_size=(16, 16)), params, x), actual)
    assert np.abs(applied(module, params, x[:, ::-1]) - actual).max() > 10 * TOLERANCE


def test_residual_branches_are_zero_at_init():
    """The last layers of blocks and of the network are initialized to zero, the first layers are not."""
    module = UNet(attention_resolutions=(4,), **FIELDS)

    def largest(key):
        flat = parameters.flatten(module.init(key, X, T)["params"])
        last = {name: value for name, value in flat.items() if name.split("/")[-2] in ("conv_2", "out", "conv_out")}
        return {name: jnp.abs(value).max() for name, value in last.items()}, jnp.abs(flat["conv_in/kernel"]).max()

    last, first = jit(largest)(jax.random.key(0))
    blocks, attentions = 2 + 1 + 2 + 4 + 1, 1 + 1 + 2
    assert len(last) == 2 * (blocks + attentions + 1)
    assert max(last.values()) == 0.0 < first


def test_unet_remat_wraps_every_block_and_keeps_parameters_and_outputs():
    fields = FIELDS | {"channel_mult": (1,), "attention_resolutions": (8,), "context_width": 5}
    params = initialised(UNet(**fields), X, T, context=CONTEXT)

    def loss(remat):
        module = UNet(remat=remat, **fields)
        return lambda p, x: jnp.sum(module.apply({"params": p}, x, T, context=CONTEXT, context_mask=MASK) ** 2)

    # Blocks: one down, two in the bottleneck, two up. Attention: one per block, but one in the bottleneck.
    assert str(jit(loss(True)).trace(params, X).jaxpr).count("prevent_cse") == 5 + 4
    assert "prevent_cse" not in str(jit(loss(False)).trace(params, X).jaxpr)
    plain, saved = jit(loss(False))(params, X), jit(loss(True))(params, X)
    other = jit(loss(True))(params, -X)
    np.testing.assert_allclose(saved, plain, rtol=1e-5)
    assert abs(other / plain - 1) > 1e-4


def test_unet_output_is_float32_for_any_compute_dtype():
    module = UNet(**FIELDS | {"channel_mult": (1,), "attention_resolutions": (8,)})
    params = initialised(module, X, T)
    low, full = applied(module.clone(dtype=jnp.bfloat16), params), jit(module.apply)({"params": params}, X, T)
    assert low.dtype == jnp.float32
    assert 0.0 < np.abs(low - full).max() < 0.2 < np.abs(low + full).max()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"image_size": 10, "channel_mult": (1, 2, 2)},
            "image_size must be a multiple of 4 for the 3 levels .*, got 10",
        ),
        (
            {"channel_mult": (1, 1, 1, 1, 1)},
            "image_size must be a multiple of 16 for the 5 levels of channel_mult .*, got 8",
        ),
        ({"image_size": 32, "channel_mult": (1,) * 5}, "height must be a multiple of 16 .*, got 8"),
        ({"image_size": (12, 10), "channel_mult": (1, 2, 2)}, r"image_size must be a multiple of 4 .*, got \(12, 10\)"),
        (
            {"image_size": (8, 16), "attention_resolutions": (16,)},
            r"attention_resolutions must be among .* \[8, 4\], got \[16\]",
        ),
        ({"groups": 32}, r"groups must divide the 8 channels of level 0 \(channels 8 \* 1\), got 32"),
        ({"attention_resolutions": (5,)}, r"attention_resolutions must be among .* \[8, 4\], got \[5\]"),
        (
            {"attention_resolutions": (4,), "head_channels": 12},
            "head_channels must divide the 16 channels of a level, got 12",
        ),
        ({"attention_resolutions": (4,), "num_heads": 3}, "num_heads must divide the 16 channels of a level, got 3"),
        ({"in_channels": 6}, "must have 6 channels .*, got 3"),
        ({"num_classes": 3}, "labels and num_classes must be set together"),
        ({"context_width": 5}, "context and context_width must be set together"),
    ],
)
def test_unet_rejects_inconsistent_fields(fields, message):
    with pytest.raises(ValueError, match=message):
        initialised(UNet(**FIELDS | fields), X, T)
