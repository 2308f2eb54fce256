"""Generation of the dataset: atomic, reproducible, and without held-out pairs in training."""

import os
import pickle
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from unclip_jax.data.captioned_shapes import builder
from unclip_jax.data.captioned_shapes.builder import data_source, prepare
from unclip_jax.data.captioned_shapes.dataset_sizes import DATASET_SIZES
from unclip_jax.data.captioned_shapes.drawing import draw, thumbnail
from unclip_jax.data.captioned_shapes.generation import describe
from unclip_jax.data.captioned_shapes.scene import COLOURS, HELD_OUT, SHAPES, Scene, is_named, nearest_name
from unclip_jax.data.sources import open_source
from unclip_jax.data.spec import DataSpec

PREPARE = "from unclip_jax.data.captioned_shapes.builder import prepare; print(prepare({directory!r}, size='tiny'))"
SIZE_WORDS = ("small", "little", "large", "big")


def contents(directory: Path) -> dict[str, list[dict]]:
    """Returns all records of the tiny size in order, with images as bytes."""
    records_of = {}
    for split, count in DATASET_SIZES["tiny"].records.items():
        records = data_source(split, directory, size="tiny").__getitems__(range(count))
        records_of[split] = [
            {**r, "image": r["image"].tobytes(), "thumbnail": r["thumbnail"].tobytes()} for r in records
        ]
    return records_of


def start(code: str) -> subprocess.Popen:
    root = Path(__file__).parents[3]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", code], stdout=pipe, stderr=pipe, text=True, env=environment)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("tiny")
    prepare(directory, size="tiny")
    return directory


def test_record_contains_scene_image_and_thumbnail(tiny):
    for split, count in DATASET_SIZES["tiny"].records.items():
        records = data_source(split, tiny, size="tiny")
        assert len(records) == count
        for record in (records[0], records[count - 1]):
            scene = Scene.from_json(record["scene"])
            np.testing.assert_array_equal(record["image"], draw(scene))
            np.testing.assert_array_equal(record["thumbnail"], thumbnail(draw(scene)))
            assert len(record["captions"]) == 5 and all(isinstance(text, str) for text in record["captions"])


def test_stored_records_match_describe(tiny):
    """The stored scenes and captions are those of `describe`, in another order."""
    for split, count in DATASET_SIZES["tiny"].records.items():
        records = data_source(split, tiny, size="tiny", fields=("scene", "captions")).__getitems__(range(count))
        described = [describe(split, index) for index in range(count)]
        expected = [(scene.to_json(), [caption.text for caption in captions]) for scene, captions, _ in described]
        assert sorted((record["scene"], record["captions"]) for record in records) == sorted(expected)


def test_records_are_picklable_and_have_the_requested_fields(tiny):
    records = pickle.loads(pickle.dumps(data_source("test", tiny, size="tiny", fields=("captions",))))
    assert set(records[3]) == {"captions"}
    assert records[3] == data_source("test", tiny, size="tiny", fields=("captions",))[3]
    assert len({record["captions"][0] for record in records}) > 10  # iteration ends
    assert records.__getitems__([5, 3]) == [records[5], records[3]]
    for index in (32, -1):
        with pytest.raises(IndexError, match=f"index must be from 0 to 31, got {index}"):
            records[index]


def test_concurrent_processes_generate_the_dataset_once(tiny, tmp_path):
    processes = [start(PREPARE.format(directory=str(tmp_path))) for _ in range(2)]
    outputs = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    folder = tmp_path / "captioned_shapes" / "tiny" / "1.1.0"
    assert [out for out, _ in outputs] == [f"{folder}\n"] * 2
    messages = [message for _, message in outputs if message]
    assert messages == [f"Generating 160 captioned-shapes images in {folder} (first use only)\n"]
    assert contents(tmp_path) == contents(tiny)


def test_prepare_recovers_after_a_killed_process(tiny, tmp_path):
    # With about a hundred times as many records, there is enough time to kill the process.
    process = start(
        "from unclip_jax.data.captioned_shapes.dataset_sizes import DATASET_SIZES\n"
        "DATASET_SIZES['tiny'].records['train'] = 10_000\n" + PREPARE.format(directory=str(tmp_path))
    )
    folder = tmp_path / "captioned_shapes" / "tiny"
    deadline = time.monotonic() + 60
    while not list(folder.glob("*incomplete*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert list(folder.glob("*incomplete*")) and not (folder / "1.1.0").exists()
    prepare(tmp_path, size="tiny")
    assert [path.name for path in folder.iterdir()] == ["1.1.0"]
    assert contents(tmp_path) == contents(tiny)


def test_existing_dataset_is_used_without_output(tiny, capfd):
    prepare(tiny, size="tiny")
    data_source("train", tiny, size="tiny")
    assert capfd.readouterr() == ("", "")


def test_default_directory_depends_on_the_environment(monkeypatch):
    monkeypatch.setenv("UNCLIP_CACHE", "/somewhere")
    assert os.fspath(builder.default_directory()) == "/somewhere"
    monkeypatch.delenv("UNCLIP_CACHE")
    assert os.fspath(builder.default_directory()) == os.path.expanduser("~/.cache/unclip_jax")


def test_builder_rejects_invalid_arguments(tiny, tmp_path):
    with pytest.raises(ValueError, match="split must be one of train, test, compositional .*, got 'validation'"):
        data_source("validation", tiny, size="tiny")
    with pytest.raises(ValueError, match=r"fields of .* must be among image, thumbnail.*, got \['label'\]"):
        data_source("train", tiny, size="tiny", fields=("label",))
    with pytest.raises(ValueError, match=r"fields of .* must be among .* scene, got \['wrong_captions'\]"):
        data_source("train", tiny, size="tiny", fields=("wrong_captions",))
    with pytest.raises(ValueError, match="size must be one of full, tiny, contrasts.*, got 'huge'"):
        prepare(tiny, size="huge")
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="Dataset folder .*file/below.* cannot be created"):
        prepare(tmp_path / "file" / "below", size="tiny")


_SIZE, _COLOR, _SHAPE = ("|".join(names) for names in (SIZE_WORDS, COLOURS, SHAPES))
_BEFORE = re.compile(rf"\b({_COLOR}) (?:(?:{_SIZE}) )?({_SHAPE})\b")
_AFTER = re.compile(rf"\b({_SHAPE}) that is (?:(?:{_SIZE}) and )?({_COLOR})\b")


def named_pairs(text: str) -> set[tuple[str, str]]:
    """Returns the (shape, color) pairs in a text, found independently of the code that generates captions."""
    return {(shape, color) for color, shape in _BEFORE.findall(text)} | set(_AFTER.findall(text))


def test_named_pairs_finds_all_pairs_of_a_text():
    assert named_pairs("a blue small star on green") == {("star", "blue")}
    assert named_pairs("ring that is big and green above a red cross") == {("ring", "green"), ("cross", "red")}
    assert named_pairs("a star that is small on a blue background") == set()


def names_everything(text: str, num_objects: int) -> bool:
    """Returns whether a caption names every attribute, by counting words."""
    words = re.findall("[a-z]+", text)
    shapes, colors, sizes = (sum(word in known for word in words) for known in (SHAPES, COLOURS, SIZE_WORDS))
    related = bool(re.search(r"\b(left|right|above|over|below|under|top|bottom)\b", text)) or num_objects == 1
    return shapes == sizes == num_objects and colors == num_objects + 1 and related


def check_splits(splits: dict[str, list[tuple[Scene, list[str]]]]) -> None:
    """Checks the pairs of every split, the fraction of two objects, and the fraction of complete captions.

    Train and test contain no held-out pair in a scene or caption, compositional contains only held-out pairs. At least
    a third of the training scenes have two objects, and at most half of the captions name everything.
    """
    assert {split: len(records) for split, records in splits.items()} == DATASET_SIZES["full"].records
    for split, records in splits.items():
        drawn = {(item.shape, item.colour) for scene, _ in records for item in scene.objects}
        named = set().union(*(named_pairs(text) for _, texts in records for text in texts))
        if split == "compositional":
            assert drawn == named == HELD_OUT
        else:
            assert not (drawn | named) & HELD_OUT
            assert len(drawn) == len(named) == 42
    counts = [len(scene.objects) for scene, _ in splits["train"]]
    full = [names_everything(text, len(scene.objects)) for scene, texts in splits["train"] for text in texts]
    assert 1 / 3 <= np.mean(np.equal(counts, 2)) < 0.45
    assert 0.4 < np.mean(full) <= 0.5


def test_full_size_has_correct_splits():
    """Checks all 33,000 described records. Another test compares descriptions with files for the tiny size."""
    check_splits(
        {
            split: [
                (scene, [caption.text for caption in captions])
                for scene, captions, _ in (describe(split, index) for index in range(count))
            ]
            for split, count in DATASET_SIZES["full"].records.items()
        }
    )


@pytest.mark.slow
def test_full_size_has_correct_splits_on_disk(tmp_path):
    """Generates the complete dataset and reads all scenes and captions."""
    folder = Path(prepare(tmp_path))
    assert sum(file.stat().st_size for file in folder.iterdir()) < 500e6
    splits = {}
    for split, count in DATASET_SIZES["full"].records.items():
        source = data_source(split, tmp_path, fields=("scene", "captions"))
        records = source.__getitems__(range(count))
        splits[split] = [(Scene.from_json(record["scene"]), record["captions"]) for record in records]
    check_splits(splits)


def test_recoloured_size_has_documented_fractions_and_no_held_out_pairs():
    scenes = [describe("train", index, "recoloured")[0] for index in range(1000)]
    pairs = [(item.shape, nearest_name(item.colour)) for scene in scenes for item in scene.objects]
    assert not HELD_OUT & set(pairs)
    # Tolerance of three standard errors of a fraction of 1000.
    assert abs(np.mean([len(scene.objects) == 2 for scene in scenes]) - 0.5) < 0.048
    assert abs(np.mean([not is_named(scene.background) for scene in scenes]) - 0.5) < 0.048
    assert describe("train", 7, "recoloured")[2] == [], "only the contrasts sizes have negative captions"
    assert describe("test", 7, "recoloured") == describe("test", 7)


def test_contrasts_size_adds_recolored_scenes_and_negative_captions(tmp_path):
    """The first half matches the full size. Of the other half, 60% are recolored and 70% have two objects."""
    size, count = "contrasts_tiny", DATASET_SIZES["contrasts_tiny"].records["train"]
    described = [describe("train", index, size) for index in range(count)]
    recoloured, two = [], []
    for index, (scene, captions, _) in enumerate(described):
        named = all(is_named(color) for color in (scene.background, *(item.colour for item in scene.objects)))
        assert named or index >= 96
        assert (scene, captions) == describe("train", index)[:2] or index >= 96
        recoloured.append(not named)
        two.append(len(scene.objects) == 2)
    assert 0.5 < np.mean(recoloured[96:]) < 0.7 and 0.6 < np.mean(two[96:]) < 0.8
    records = data_source("train", tmp_path, size=size, fields=("thumbnail", "captions", "scene", "wrong_captions"))
    expected = [(scene.to_json(), *([text.text for text in texts] for texts in both)) for scene, *both in described]
    actual = [(record["scene"], record["captions"], record["wrong_captions"]) for record in records]
    assert sorted(actual) == sorted(expected)
    for record in records:
        np.testing.assert_array_equal(record["thumbnail"], thumbnail(draw(Scene.from_json(record["scene"]))))
    config = {"source": f"captioned_shapes/{size}", "dir": str(tmp_path), "image_field": "thumbnail"}
    source = open_source(DataSpec(**config), "train")
    assert [(record.captions, record.negative_captions) for record in source] == [
        (tuple(captions), tuple(negatives)) for _, captions, negatives in actual
    ]
