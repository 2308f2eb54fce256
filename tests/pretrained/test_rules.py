"""How published tensors become parameters, and what is said where they do not."""

import functools
import weakref

import jax
import numpy as np
import pytest

from tests.pretrained.held import held
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
    drawn = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    return {name: array for name, array in {**drawn, **changes}.items() if array is not None}


def converted(**changes):
    found = arrays(**changes)
    return found, import_params(held(found), RULES, EXPECTED, what="weights 'w'")


def test_axes_layers_and_tensors_that_are_joined():
    found, params = converted()
    np.testing.assert_array_equal(params["scale"], found["norm.weight"])
    np.testing.assert_array_equal(params["conv"]["kernel"][2, 1], found["conv.weight"][:, :, 2, 1].T)
    # Layer 1, input 3, the key (part 1), head 1 of two, channel 2 of three: row 1 * 3 + 2 of that layer's k.
    assert params["blocks"]["qkv"][1, 3, 1, 1, 2] == found["1.k"][5, 3]
    assert params["blocks"]["qkv"].shape == (3, 4, 2, 2, 3)


def test_each_parameter_is_of_the_type_and_place_that_is_asked_for():
    placed = []

    def place(name, shape, pieces):
        placed.append(name)
        return on_host(np.float16)(name, shape, pieces)

    params = import_params(held(arrays()), RULES, EXPECTED, what="w", place=place)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype(np.float16)}
    assert placed == ["scale", "conv/kernel", "blocks/qkv"]
    half = held(arrays(**{"norm.weight": np.ones(4, np.float16)}))
    own = import_params(half, RULES, EXPECTED, what="w", place=on_host(None))
    assert (own["scale"].dtype, own["blocks"]["qkv"].dtype) == (np.float16, np.float32)


def test_no_more_than_one_layer_is_in_memory_beside_what_is_placed():
    made, alive = [], []

    def read(array):
        copy = array.copy()
        made.append(weakref.ref(copy))
        return copy

    def place(name, shape, pieces):
        for _ in pieces:
            alive.append(sum(reference() is not None for reference in made))

    tensors = {
        name: LazyTensor(array.shape, array.dtype, functools.partial(read, array)) for name, array in arrays().items()
    }
    import_params(tensors, RULES, EXPECTED, what="w", place=place)
    # One of "scale", one of "conv/kernel", and of "blocks/qkv" three times the copy that joins a layer's tensors.
    assert alive == [1, 1, 0, 0, 0]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"1.q": None, "2.k": None}, "weights 'w' do not fit the network: missing: 1.q, 2.k"),
        ({"ema.x": np.ones(2), "3.q": np.ones((6, 4))}, "left over: 3.q, ema.x"),
        ({"norm.weight": None, "norms.weight": np.ones(4)}, r"left over: norms.weight \(perhaps norm.weight\)"),
        ({"conv.weight": np.ones((4, 5, 3, 3))}, r"conv/kernel \[3, 3, 5, 4\] instead of \[3, 2, 5, 4\]"),
        ({"conv.weight": np.ones((4, 5))}, r"conv.weight \[4, 5\] cannot become conv/kernel as 'o i h w -> h w i o'"),
        ({"1.q": np.ones((5, 4)), "1.k": np.ones((5, 4))}, r"1.q \[5, 4\], 1.k \[5, 4\] cannot become blocks/qkv"),
        ({"1.q": np.ones((8, 4)), "1.k": np.ones((8, 4))}, "the layers of blocks/qkv have different shapes"),
        ({"1.q": np.ones((8, 4))}, r"1.q \[8, 4\], 1.k \[6, 4\] cannot become blocks/qkv"),
    ],
)
def test_what_does_not_fit_is_named(changes, said):
    with pytest.raises(ValueError, match=said):
        converted(**changes)
