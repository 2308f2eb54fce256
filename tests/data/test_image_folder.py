"""Folders of images with captions: records, splits, and errors for invalid folders."""

import json

import numpy as np
import pytest
from PIL import Image

from unclip_jax.data.image_folder import ImageFolder
from unclip_jax.data.pipeline import Pipeline
from unclip_jax.data.sources import open_source
from unclip_jax.data.spec import DataSpec


def write(folder, name, *, size=(8, 8), color=(10, 20, 30), caption=None):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(path)
    if caption is not None:
        path.with_suffix(".txt").write_text(caption)


def read(folder, split="train"):
    source = ImageFolder(folder, split)
    return [source[index] for index in range(len(source))]


@pytest.fixture
def many(tmp_path):
    """Two hundred images in two subfolders, with their number in the red channel and in the caption."""
    for number in range(200):
        write(tmp_path, f"{'ab'[number % 2]}/{number:03d}.png", color=(number, 0, 0), caption=f"number {number}")
    return tmp_path


def test_image_folder_pairs_images_and_captions(many):
    records = [*read(many), *read(many, "test")]
    assert len(records) == 200
    for record in records:
        assert record.captions == (f"number {record.image[0, 0, 0]}",)


def test_captions_are_listed_without_decoding_images(many):
    for path in many.glob("**/*.png"):
        path.write_bytes(b"")
    source = ImageFolder(many, "train")
    listed = list(source.captions())
    assert len(listed) == len(source) and listed[0] == "number 0" and len(set(listed)) == len(listed)


def test_test_split_has_one_image_in_twenty_and_is_stable_when_images_are_added(many):
    before = {split: {r.captions for r in read(many, split)} for split in ("train", "test")}
    assert 4 <= len(before["test"]) <= 18  # 10 expected, about 2.5 standard deviations
    for number in range(200, 220):
        write(many, f"{number}.png", caption="more")
    for split in before:
        assert before[split] <= {r.captions for r in read(many, split)}


def test_split_folders_define_the_splits(tmp_path):
    write(tmp_path, "train/x.png", caption="one")
    write(tmp_path, "test/x.png", caption="two")
    assert [r.captions for r in read(tmp_path)] == [("one",)]
    assert [r.captions for r in read(tmp_path, "test")] == [("two",)]


def test_caption_file_has_one_caption_per_nonblank_line(tmp_path):
    write(tmp_path, "train/x.png", caption=" a cat \n\nthe same cat\n")
    (tmp_path / "test").mkdir()
    assert read(tmp_path)[0].captions == ("a cat", "the same cat")


def test_captions_jsonl_provides_captions(tmp_path):
    (tmp_path / "test").mkdir()
    for name in ("a.png", "deep/b.png", "unnamed.png"):
        write(tmp_path, f"train/{name}")
    lines = [
        {"image": "a.png", "caption": "first"},
        {"image": "./deep/b.png", "captions": ["x", " y "]},
        {"image": "a.png", "caption": "second", "width": 8},
    ]
    (tmp_path / "train" / "captions.jsonl").write_text("\n\n".join(map(json.dumps, lines)))
    assert [r.captions for r in read(tmp_path)] == [("first", "second"), ("x", "y")]


def test_images_are_cropped_to_the_central_square(tmp_path):
    image = np.zeros((4, 10, 3), np.uint8)
    image[:, 3:7] = 255
    (tmp_path / "train").mkdir()
    (tmp_path / "test").mkdir()
    for name, oriented in (("wide", image), ("high", image.transpose(1, 0, 2))):
        Image.fromarray(oriented).save(tmp_path / "train" / f"{name}.png")
        (tmp_path / "train" / f"{name}.txt").write_text(name)
    for record in read(tmp_path):
        np.testing.assert_array_equal(record.image, np.full((4, 4, 3), 255))


def test_truncated_and_small_images_are_replaced_with_a_warning(many):
    names = sorted(path for path in many.glob("**/*.png"))
    names[3].write_bytes(names[3].read_bytes()[:-30])
    write(many, names[5].relative_to(many), size=(6, 20), caption="small")
    config = DataSpec(source="folder", dir=str(many), image_size=8, threads=0)
    with pytest.warns(UserWarning, match="cannot be read and is replaced by the next one") as caught:
        data = Pipeline(config, "train", global_batch=64, seed=0, shuffle=False)
        batch = next(data.batches())
    assert batch["image"].shape == (64, 8, 8, 3)
    warnings = " ".join(str(warning.message) for warning in caught)
    assert str(names[3]) in warnings and "image is 6 px, smaller than the required 8 px" in warnings


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "split 'train' of .* has no images"),
        ({"a.png": None}, r"1 of 1 images in .* have no .txt file of the same name, .* captions.jsonl: a.png"),
        ({"a.png": None, "a.txt": " \n"}, "1 caption files in .* are empty: a.txt"),
        ({"captions.jsonl": "{"}, "captions.jsonl' line 1 is not valid JSON"),
        ({"captions.jsonl": "[1]"}, 'line 1 must have "image", a file name, and a non-empty "caption"'),
        ({"captions.jsonl": '{"image": "a.png"}'}, 'line 1 must have "image"'),
        ({"captions.jsonl": '{"image": "a.png", "captions": []}'}, 'line 1 must have "image"'),
        ({"captions.jsonl": '{"image": "a.png", "captions": ["x", " "]}'}, 'line 1 must have "image"'),
        ({"captions.jsonl": '\n{"caption": "x"}'}, 'line 2 must have "image"'),
        ({"captions.jsonl": '{"image": "../a.png", "caption": "x"}'}, "names '../a.png', which is not an image in"),
    ],
    ids=lambda value: None,
)
def test_invalid_image_folder_is_rejected_in_one_line(tmp_path, files, message):
    for name, content in files.items():
        if content is None:
            write(tmp_path, name)
        else:
            (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message) as error:
        ImageFolder(tmp_path, "train")
    assert "\n" not in str(error.value)


def test_missing_folder_or_unknown_split_is_rejected(tmp_path):
    with pytest.raises(ValueError, match="config.data.dir must be a folder of images, got '.*none'"):
        ImageFolder(tmp_path / "none", "train")
    with pytest.raises(ValueError, match="split must be train or test with source folder, got 'val'"):
        ImageFolder(tmp_path, "val")
    with pytest.raises(ValueError, match="config.data.dir must be a folder of images .* with source folder, got None"):
        open_source(DataSpec(source="folder"), "train")


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x0b", "\x1c"])
def test_unicode_separators_do_not_split_captions(tmp_path, separator):
    caption = f"a red{separator}circle"
    write(tmp_path / "train", "a.png", caption=f"{caption}\r\nanother\n")
    write(tmp_path / "test", "b.png")
    lines = json.dumps({"image": "b.png", "caption": caption}, ensure_ascii=False)
    (tmp_path / "test" / "captions.jsonl").write_text(f"{lines}\n")
    assert read(tmp_path)[0].captions == (caption, "another")
    assert read(tmp_path, "test")[0].captions == (caption,)
