"""Files of weights: what comes out of each format, and what is said of those that are not what they seem."""

import os
import pickle

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.pretrained.torch_writer import (
    STORAGES,
    Call,
    Storage,
    legacy,
    named,
    script_object,
    tensor,
    tensors,
    zipped,
)
from unclip_jax.pretrained.tensor_files import open_tensors

TYPES = [np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name) for name in STORAGES]
FORMATS = {"zip": zipped, "legacy": legacy}


def arrays():
    rng = np.random.default_rng(0)
    return {f"block.{dtype.name}": rng.integers(0, 2, (3, 4, 2)).astype(dtype) for dtype in TYPES} | {
        "scalar": np.array(2.5, np.float32),
        "empty": np.zeros((0, 3), np.float32),
    }


def written(path, content):
    path.write_bytes(content)
    return path


def assert_same(found, expected):
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert (found[name].shape, found[name].dtype) == (array.shape, array.dtype), name
        np.testing.assert_array_equal(found[name].read(), array, err_msg=name)


@pytest.mark.parametrize("write", FORMATS.values(), ids=FORMATS)
def test_torch_files_of_every_type(write, tmp_path):
    assert_same(open_tensors(written(tmp_path / "w.pt", write(tensors(arrays())))), arrays())


def test_safetensors_of_every_type(tmp_path):
    save_file(arrays(), tmp_path / "w.safetensors")
    found = open_tensors(tmp_path / "w.safetensors")
    assert_same({name: found[name] for name in arrays()}, arrays())


@pytest.mark.parametrize("write", FORMATS.values(), ids=FORMATS)
def test_nested_names_views_and_what_is_no_tensor(write, tmp_path):
    rows = np.arange(12, dtype=np.float32)
    shared, parameter = Storage("s", rows), named("torch._utils", "_rebuild_parameter")
    tree = {
        "epoch": 3,
        "state_dict": {"a": tensor(shared, (3, 4)), "t": tensor(shared, (4, 3), (1, 4))},
        "pair": (tensor(shared, (2,), offset=10), Call(parameter, tensor(shared, (1,)), False, {})),
        "note": "text",
    }
    expected = {
        "state_dict.a": rows.reshape(3, 4),
        "state_dict.t": rows.reshape(3, 4).T,
        "pair.0": rows[10:],
        "pair.1": rows[:1],
    }
    assert_same(open_tensors(written(tmp_path / "w.pt", write(tree))), expected)


def test_a_safetensors_file_whose_length_looks_like_a_pickle(tmp_path):
    # Its first byte is the lowest of the length of the names, which are padded to eights: 0x80 among them.
    for letters in range(1, 200):
        save_file({"x" * letters: np.zeros(2, np.float32)}, tmp_path / "a")
        if (tmp_path / "a").read_bytes()[0] == 0x80:
            break
    assert (tmp_path / "a").read_bytes()[0] == 0x80
    assert list(open_tensors(tmp_path / "a")) == ["x" * letters]


def test_tensors_on_untyped_storages(tmp_path):
    values = np.array([1.5, -2.0, 3.0], ml_dtypes.bfloat16)
    storage = Storage(0, values.view(np.uint8), named("torch.storage", "UntypedStorage"))
    rebuilt = Call(
        named("torch._utils", "_rebuild_tensor_v3"), storage, 1, (2,), (1,), False, {}, named("torch", "bfloat16")
    )
    assert_same(open_tensors(written(tmp_path / "w.pt", zipped({"a": rebuilt}))), {"a": values[1:]})


def test_torchscript_objects_are_their_attributes(tmp_path):
    ones, twos = np.ones((2, 3), np.float16), np.full(4, 2.0, np.float32)
    inner = script_object("Conv", weight=tensor(Storage(0, ones), ones.shape), training=False)
    content = zipped(script_object("CLIP", visual=inner, scale=tensor(Storage(1, twos), twos.shape)))
    assert_same(open_tensors(written(tmp_path / "ViT.pt", content)), {"visual.weight": ones, "scale": twos})


@pytest.mark.parametrize("write", FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize("call", [Call(os.system, "touch ran"), Call(eval, "open('ran', 'w')"), Call(np.dtype, "f4")])
def test_other_names_are_refused_and_nothing_runs(write, call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "w.pt", write({"a": call}))
    with pytest.raises(ValueError, match=r"'w.pt' cannot be read .* it refers to .*(system|eval|dtype), which no"):
        open_tensors("w.pt")
    assert os.listdir(tmp_path) == ["w.pt"]


ROW = Storage(0, np.arange(6, dtype=np.float32))
LIES = {
    "beyond": (tensor(ROW, (7,)), r"shape \(7,\) from 0 on does not lie in its storage of 6"),
    "offset": (tensor(ROW, (2,), offset=5), r"shape \(2,\) from 5 on does not lie"),
    "stride": (tensor(ROW, (2, 3), (4, 1)), r"does not lie"),
    "negative": (tensor(ROW, (2,), (-1,), offset=3), "does not lie"),
    "bomb": (tensor(ROW, (10**12,), (0,)), "does not lie"),
    "axes": (tensor(ROW, (2, 3), (1,)), "does not lie"),
    "kind": (tensor((1, 2), (2,)), "tuple"),
}


@pytest.mark.parametrize("write", FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize("lie", LIES)
def test_tensors_that_do_not_lie_in_their_storage(write, lie, tmp_path):
    thing, said = LIES[lie]
    with pytest.raises(ValueError, match=f"'.*w.pt' cannot be read as a file of PyTorch: .*{said}"):
        open_tensors(written(tmp_path / "w.pt", write({"a": thing})))


def test_entries_that_are_missing_too_short_or_of_another_machine(tmp_path):
    good = {"a": tensor(ROW, (6,))}
    with pytest.raises(ValueError, match="archive/data/0 has 23 bytes, not 24"):
        open_tensors(written(tmp_path / "w.pt", zipped(good, data={"0": bytes(23)})))
    for content in (zipped(good, order="big"), legacy(good, little_endian=False)):
        with pytest.raises(ValueError, match="big end first"):
            open_tensors(written(tmp_path / "w.pt", content))


def test_a_pickle_that_asks_for_more_memory_than_it_fills(tmp_path):
    bomb = b"\x80\x02}r\xff\xff\xff\x7f."  # an empty dict, put into entry 2^31 - 1
    head = b"".join(pickle.dumps(thing, 2) for thing in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}))
    with pytest.raises(ValueError, match="entry 2147483647 of the pickle's memory"):
        open_tensors(written(tmp_path / "w.pt", head + bomb))


@pytest.mark.parametrize("kind", [*FORMATS, "safetensors"])
def test_a_file_that_is_cut_off_anywhere_gives_one_line(kind, tmp_path):
    content, path = sound_file(kind, tmp_path)
    for length in [*range(0, 40), *range(40, len(content), 23), len(content) - 1]:
        written(path, content[:length])
        with pytest.raises(ValueError, match=r"\A[^\n]*w\.[^\n]*\Z"):
            for stored in open_tensors(path).values():
                stored.read()


@pytest.mark.parametrize("kind", [*FORMATS, "safetensors"])
def test_a_flipped_byte_gives_one_line_or_numbers_of_the_same_size(kind, tmp_path):
    content, path = sound_file(kind, tmp_path)
    rng = np.random.default_rng(0)
    for place in rng.integers(0, len(content), 400):
        flipped = bytearray(content)
        flipped[place] ^= 1 << int(rng.integers(8))
        written(path, bytes(flipped))
        try:
            found = {name: stored.read() for name, stored in open_tensors(path).items()}
        except ValueError as error:
            assert "\n" not in str(error) and path.name in str(error)
        else:
            assert sum(array.nbytes for array in found.values()) <= 200


def sound_file(kind, tmp_path):
    contents = {"weight": np.arange(32, dtype=np.float32), "bias": np.ones((3, 2), np.float16)}
    path = tmp_path / "w.safetensors"
    if kind == "safetensors":
        save_file(contents, path)
        return path.read_bytes(), path
    return FORMATS[kind](tensors(contents)), path


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is not a supported weights file"),
        (b"<!DOCTYPE html><html>", "is not a supported weights file. Expected .safetensors, .bin"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a Git LFS pointer"),
        (b"\x10\0\0\0\0\0\0\0{}", "not a valid safetensors file"),
    ],
)
def test_files_that_are_something_else(content, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        open_tensors(written(tmp_path / "w.bin", content))
