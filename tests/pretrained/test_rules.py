"""Conversion of published tensors to parameters, and errors if they do not match."""

import functools
import weakref

import jax
import numpy as np
import pytest

from tests.pretrained.lazy_tensors import lazy_tensors
from unclip_jax.parameters import on_host
from unclip_jax.pretrained.lazy_tensor import LazyTensor
from unclip_jax.pretrained.rules import Rule, import_params

RULES = [
    Rule("scale", "norm.weight"),
    Rule("conv/kernel", "conv.weight", "o i h w -> h w i o"),
    Rule("blocks/qkv", ("{layer}.q", "{layer}.k"), "p (n k) i -> i p n k", {"n": 2}, layers=3),
]
EXPECTED = {
    "scale": jax.ShapeDtypeStruct((4,), np.float32),
    "conv": {"kernel": jax.ShapeDtypeStruct((3, 2, 5, 4), np.float32)},
    "blocks": {"qkv": jax.ShapeDtypeStruct((3, 4, 2, 2, 3), np.float32)},
}


def arrays(**changes):
    rng = np.random.default_rng(0)
    shapes = {"norm.weight": (4,), "conv.weight": (4, 5, 3, 2)}
    shapes |= {f"{layer}.{part}": (6, 4) for layer in range(3) for part in "qk"}
    random = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    return {name: array for name, array in {**random, **changes}.items() if array is not None}


def imported(**changes):
    tensors = arrays(**changes)
    return tensors, import_params(lazy_tensors(tensors), RULES, EXPECTED, what="weights 'w'")


def test_import_params_rearranges_axes_and_stacks_layers():
    tensors, params = imported()
    np.testing.assert_array_equal(params["scale"], tensors["norm.weight"])
    np.testing.assert_array_equal(params["conv"]["kernel"][2, 1], tensors["conv.weight"][:, :, 2, 1].T)
    # Layer 1, input 3, key (part 1), head 1 of two, channel 2 of three: row 1 * 3 + 2 of that layer's k.
    assert params["blocks"]["qkv"][1, 3, 1, 1, 2] == tensors["1.k"][5, 3]
    assert params["blocks"]["qkv"].shape == (3, 4, 2, 2, 3)


def test_import_params_uses_the_placement():
    placed = []

    def place(name, shape, pieces):
        placed.append(name)
        return on_host(np.float16)(name, shape, pieces)

    params = import_params(lazy_tensors(arrays()), RULES, EXPECTED, what="w", place=place)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype(np.float16)}
    assert placed == ["scale", "conv/kernel", "blocks/qkv"]
    half = lazy_tensors(arrays(**{"norm.weight": np.ones(4, np.float16)}))
    params = import_params(half, RULES, EXPECTED, what="w", place=on_host(None))
    assert (params["scale"].dtype, params["blocks"]["qkv"].dtype) == (np.float16, np.float32)


def test_import_params_keeps_at_most_one_layer_in_memory():
    references, alive = [], []

    def read(array):
        copy = array.copy()
        references.append(weakref.ref(copy))
        return copy

    def place(name, shape, pieces):
        for _ in pieces:
            alive.append(sum(reference() is not None for reference in references))

    tensors = {
        name: LazyTensor(array.shape, array.dtype, functools.partial(read, array)) for name, array in arrays().items()
    }
    import_params(tensors, RULES, EXPECTED, what="w", place=place)
    # One tensor for "scale" and one for "conv/kernel". Each layer of "blocks/qkv" is a copy, so its tensors are freed.
    assert alive == [1, 1, 0, 0, 0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"1.q": None, "2.k": None}, "weights 'w' do not match the network. Missing: 1.q, 2.k."),
        ({"ema.x": np.ones(2), "3.q": np.ones((6, 4))}, "Unexpected: 3.q, ema.x."),
        ({"norm.weight": None, "norms.weight": np.ones(4)}, r"norms.weight \(similar to the missing norm.weight\)"),
        ({"conv.weight": np.ones((4, 5, 3, 3))}, r"conv/kernel \[3, 3, 5, 4\] instead of \[3, 2, 5, 4\]"),
        (
            {"conv.weight": np.ones((4, 5))},
            r"cannot be converted to conv/kernel by 'o i h w -> h w i o': got conv.weight \[4, 5\]",
        ),
        ({"1.q": np.ones((5, 4)), "1.k": np.ones((5, 4))}, r"to blocks/qkv by .*: got 1.q \[5, 4\], 1.k \[5, 4\]"),
        ({"1.q": np.ones((8, 4)), "1.k": np.ones((8, 4))}, "must have the same shape in all layers of blocks/qkv"),
        ({"1.q": np.ones((8, 4))}, r"to blocks/qkv by .*: got 1.q \[8, 4\], 1.k \[6, 4\]"),
    ],
)
def test_import_params_reports_mismatched_tensors(changes, message):
    with pytest.raises(ValueError, match=message):
        imported(**changes)
