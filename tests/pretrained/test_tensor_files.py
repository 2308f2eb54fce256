"""Readers for weights files: all formats and types, and rejection of damaged and malicious files."""

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


def assert_same(actual, expected):
    assert list(actual) == list(expected)
    for name, array in expected.items():
        assert (actual[name].shape, actual[name].dtype) == (array.shape, array.dtype), name
        np.testing.assert_array_equal(actual[name].read(), array, err_msg=name)


@pytest.mark.parametrize("write", FORMATS.values(), ids=FORMATS)
def test_open_tensors_reads_every_type_of_torch_files(write, tmp_path):
    assert_same(open_tensors(written(tmp_path / "w.pt", write(tensors(arrays())))), arrays())


def test_open_tensors_reads_every_type_of_safetensors(tmp_path):
    save_file(arrays(), tmp_path / "w.safetensors")
    tensors = open_tensors(tmp_path / "w.safetensors")
    assert_same({name: tensors[name] for name in arrays()}, arrays())


@pytest.mark.parametrize("write", FORMATS.values(), ids=FORMATS)
def test_open_tensors_reads_nested_tensors_and_views_and_ignores_other_values(write, tmp_path):
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


def test_safetensors_file_that_starts_like_a_pickle_is_recognized(tmp_path):
    # The first byte is the lowest byte of the header's length. Headers are padded to multiples of 8, such as 0x80.
    for letters in range(1, 200):
        save_file({"x" * letters: np.zeros(2, np.float32)}, tmp_path / "a")
        if (tmp_path / "a").read_bytes()[0] == 0x80:
            break
    assert (tmp_path / "a").read_bytes()[0] == 0x80
    assert list(open_tensors(tmp_path / "a")) == ["x" * letters]


def test_open_tensors_reads_untyped_storages(tmp_path):
    values = np.array([1.5, -2.0, 3.0], ml_dtypes.bfloat16)
    storage = Storage(0, values.view(np.uint8), named("torch.storage", "UntypedStorage"))
    rebuilt = Call(
        named("torch._utils", "_rebuild_tensor_v3"), storage, 1, (2,), (1,), False, {}, named("torch", "bfloat16")
    )
    assert_same(open_tensors(written(tmp_path / "w.pt", zipped({"a": rebuilt}))), {"a": values[1:]})


def test_torchscript_object_is_read_as_its_attributes(tmp_path):
    ones, twos = np.ones((2, 3), np.float16), np.full(4, 2.0, np.float32)
    inner = script_object("Conv", weight=tensor(Storage(0, ones), ones.shape), training=False)
    content = zipped(script_object("CLIP", visual=inner, scale=tensor(Storage(1, twos), twos.shape)))
    assert_same(open_tensors(written(tmp_path / "ViT.pt", content)), {"visual.weight": ones, "scale": twos})


@pytest.mark.parametrize("write", FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize("call", [Call(os.system, "touch ran"), Call(eval, "open('ran', 'w')"), Call(np.dtype, "f4")])
def test_function_in_pickle_is_rejected_and_not_called(write, call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "w.pt", write({"a": call}))
    with pytest.raises(ValueError, match=r"'w.pt' is not a readable .* refers to .*(system|eval|dtype), which is not"):
        open_tensors("w.pt")
    assert os.listdir(tmp_path) == ["w.pt"]


ROW = Storage(0, np.arange(6, dtype=np.float32))
INVALID_TENSORS = {
    "too large": (tensor(ROW, (7,)), r"shape \(7,\) at offset 0 does not fit into a storage of 6 elements"),
    "offset": (tensor(ROW, (2,), offset=5), r"shape \(2,\) at offset 5 does not fit"),
    "stride": (tensor(ROW, (2, 3), (4, 1)), r"does not fit"),
    "negative stride": (tensor(ROW, (2,), (-1,), offset=3), "does not fit"),
    "huge with stride 0": (tensor(ROW, (10**12,), (0,)), "does not fit"),
    "number of strides": (tensor(ROW, (2, 3), (1,)), "does not fit"),
    "storage type": (tensor((1, 2), (2,)), "must have a storage, got tuple"),
}


@pytest.mark.parametrize("write", FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize("name", INVALID_TENSORS)
def test_tensor_outside_its_storage_is_rejected(write, name, tmp_path):
    invalid, message = INVALID_TENSORS[name]
    with pytest.raises(ValueError, match=f"'.*w.pt' is not a readable PyTorch file: .*{message}"):
        open_tensors(written(tmp_path / "w.pt", write({"a": invalid})))


def test_storage_of_wrong_size_or_byte_order_is_rejected(tmp_path):
    valid = {"a": tensor(ROW, (6,))}
    with pytest.raises(ValueError, match="archive/data/0 must be uncompressed and have 24 bytes, got 23"):
        open_tensors(written(tmp_path / "w.pt", zipped(valid, data={"0": bytes(23)})))
    for content in (zipped(valid, order="big"), legacy(valid, little_endian=False)):
        with pytest.raises(ValueError, match="byte order must be little-endian, got .*big"):
            open_tensors(written(tmp_path / "w.pt", content))


def test_pickle_with_huge_memo_index_is_rejected(tmp_path):
    bomb = b"\x80\x02}r\xff\xff\xff\x7f."  # stores an empty dict at memo index 2^31 - 1
    head = b"".join(pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}))
    with pytest.raises(ValueError, match="memo index 2147483647 of the pickle is out of range"):
        open_tensors(written(tmp_path / "w.pt", head + bomb))


@pytest.mark.parametrize("kind", [*FORMATS, "safetensors"])
def test_truncated_file_is_reported_in_one_line(kind, tmp_path):
    content, path = valid_file(kind, tmp_path)
    for length in [*range(0, 40), *range(40, len(content), 23), len(content) - 1]:
        written(path, content[:length])
        with pytest.raises(ValueError, match=r"\A[^\n]*w\.[^\n]*\Z"):
            for lazy in open_tensors(path).values():
                lazy.read()


@pytest.mark.parametrize("kind", [*FORMATS, "safetensors"])
def test_flipped_bit_is_reported_in_one_line_or_keeps_size(kind, tmp_path):
    content, path = valid_file(kind, tmp_path)
    rng = np.random.default_rng(0)
    for position in rng.integers(0, len(content), 400):
        flipped = bytearray(content)
        flipped[position] ^= 1 << int(rng.integers(8))
        written(path, bytes(flipped))
        try:
            actual = {name: lazy.read() for name, lazy in open_tensors(path).items()}
        except ValueError as error:
            assert "\n" not in str(error) and path.name in str(error)
        else:
            assert sum(array.nbytes for array in actual.values()) <= 200


def valid_file(kind, tmp_path):
    contents = {"weight": np.arange(32, dtype=np.float32), "bias": np.ones((3, 2), np.float16)}
    path = tmp_path / "w.safetensors"
    if kind == "safetensors":
        save_file(contents, path)
        return path.read_bytes(), path
    return FORMATS[kind](tensors(contents)), path


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a supported weights file"),
        (b"<!DOCTYPE html><html>", "is not a supported weights file. Expected .safetensors, .bin"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a Git LFS pointer"),
        (b"\x10\0\0\0\0\0\0\0{}", "not a valid safetensors file"),
    ],
)
def test_file_in_other_format_is_rejected(content, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        open_tensors(written(tmp_path / "w.bin", content))
