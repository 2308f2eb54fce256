"""The data set: whole or absent, the same bytes every time, and free of held-out pairs."""

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
    """Every record of the tiny data in its order, pictures as bytes."""
    found = {}
    for split, count in DATASET_SIZES["tiny"].records.items():
        records = data_source(split, directory, size="tiny").__getitems__(range(count))
        found[split] = [{**r, "image": r["image"].tobytes(), "thumbnail": r["thumbnail"].tobytes()} for r in records]
    return found


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


def test_records_hold_the_scene_and_its_pictures(tiny):
    for split, count in DATASET_SIZES["tiny"].records.items():
        records = data_source(split, tiny, size="tiny")
        assert len(records) == count
        for record in (records[0], records[count - 1]):
            scene = Scene.from_json(record["scene"])
            np.testing.assert_array_equal(record["image"], draw(scene))
            np.testing.assert_array_equal(record["thumbnail"], thumbnail(draw(scene)))
            assert len(record["captions"]) == 5 and all(isinstance(text, str) for text in record["captions"])


def test_every_record_is_the_one_described(tiny):
    """Scenes and captions on disk are those that `describe` gives, in some other order, each once."""
    for split, count in DATASET_SIZES["tiny"].records.items():
        records = data_source(split, tiny, size="tiny", fields=("scene", "captions")).__getitems__(range(count))
        described = [describe(split, index) for index in range(count)]
        expected = [(scene.to_json(), [caption.text for caption in said]) for scene, said, _ in described]
        assert sorted((record["scene"], record["captions"]) for record in records) == sorted(expected)


def test_records_pickle_and_give_the_fields_asked_for(tiny):
    records = pickle.loads(pickle.dumps(data_source("test", tiny, size="tiny", fields=("captions",))))
    assert set(records[3]) == {"captions"}
    assert records[3] == data_source("test", tiny, size="tiny", fields=("captions",))[3]
    assert len({record["captions"][0] for record in records}) > 10  # iterates, and ends
    assert records.__getitems__([5, 3]) == [records[5], records[3]]
    for index in (32, -1):
        with pytest.raises(IndexError, match=f"index must be from 0 to 31, got {index}"):
            records[index]


def test_two_processes_at_once_prepare_once_and_the_same(tiny, tmp_path):
    processes = [start(PREPARE.format(directory=str(tmp_path))) for _ in range(2)]
    answers = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], answers
    folder = tmp_path / "captioned_shapes" / "tiny" / "1.1.0"
    assert [out for out, _ in answers] == [f"{folder}\n"] * 2
    messages = [message for _, message in answers if message]
    assert messages == [f"drawing 160 captioned-shapes pictures into {folder}, once\n"]
    assert contents(tmp_path) == contents(tiny)


def test_a_killed_preparation_leaves_nothing_half_made(tiny, tmp_path):
    # A hundred times as many records, so that there is time to be killed in.
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


def test_prepared_data_is_used_without_a_word(tiny, capfd):
    prepare(tiny, size="tiny")
    data_source("train", tiny, size="tiny")
    assert capfd.readouterr() == ("", "")


def test_default_directory_follows_the_environment(monkeypatch):
    monkeypatch.setenv("UNCLIP_CACHE", "/somewhere")
    assert os.fspath(builder.default_directory()) == "/somewhere"
    monkeypatch.delenv("UNCLIP_CACHE")
    assert os.fspath(builder.default_directory()) == os.path.expanduser("~/.cache/unclip_jax")


def test_bad_arguments(tiny, tmp_path):
    with pytest.raises(ValueError, match="split must be one of train, test, compositional .*, got 'validation'"):
        data_source("validation", tiny, size="tiny")
    with pytest.raises(ValueError, match=r"fields of .* must be among image, thumbnail.*, got \['label'\]"):
        data_source("train", tiny, size="tiny", fields=("label",))
    with pytest.raises(ValueError, match=r"fields of .* must be among .* scene, got \['wrong_captions'\]"):
        data_source("train", tiny, size="tiny", fields=("wrong_captions",))
    with pytest.raises(ValueError, match="size must be one of full, tiny, contrasts.*, got 'huge'"):
        prepare(tiny, size="huge")
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="directory .*file/below.* cannot be made"):
        prepare(tmp_path / "file" / "below", size="tiny")


_SIZE, _COLOUR, _SHAPE = ("|".join(names) for names in (SIZE_WORDS, COLOURS, SHAPES))
_BEFORE = re.compile(rf"\b({_COLOUR}) (?:(?:{_SIZE}) )?({_SHAPE})\b")
_AFTER = re.compile(rf"\b({_SHAPE}) that is (?:(?:{_SIZE}) and )?({_COLOUR})\b")


def named_pairs(text: str) -> set[tuple[str, str]]:
    """The (shape, colour) pairs that a caption's text names, found without the code that wrote it."""
    return {(shape, colour) for colour, shape in _BEFORE.findall(text)} | set(_AFTER.findall(text))


def test_named_pairs_are_found():
    assert named_pairs("a blue small star on green") == {("star", "blue")}
    assert named_pairs("ring that is big and green above a red cross") == {("ring", "green"), ("cross", "red")}
    assert named_pairs("a star that is small on a blue background") == set()


def names_everything(text: str, num_objects: int) -> bool:
    """Whether a caption says every attribute, by counting words."""
    found = re.findall("[a-z]+", text)
    shapes, colours, sizes = (sum(w in known for w in found) for known in (SHAPES, COLOURS, SIZE_WORDS))
    related = bool(re.search(r"\b(left|right|above|over|below|under|top|bottom)\b", text)) or num_objects == 1
    return shapes == sizes == num_objects and colours == num_objects + 1 and related


def check_splits(splits: dict[str, list[tuple[Scene, list[str]]]]) -> None:
    """No held-out pair in train or test, in a picture or in words, and nothing else in compositional; at least a third
    of the training scenes hold two objects, at most half of the captions name everything."""
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


def test_every_scene_and_caption_of_the_full_data():
    """All 33,000 as they are described; that the files hold the same is shown on the tiny data."""
    check_splits(
        {
            split: [
                (scene, [caption.text for caption in said])
                for scene, said, _ in (describe(split, index) for index in range(count))
            ]
            for split, count in DATASET_SIZES["full"].records.items()
        }
    )


@pytest.mark.slow
def test_every_record_and_caption_of_the_full_data_on_disk(tmp_path):
    """Prepares all of it, and reads every scene and caption back."""
    folder = Path(prepare(tmp_path))
    assert sum(file.stat().st_size for file in folder.iterdir()) < 500e6
    splits = {}
    for split, count in DATASET_SIZES["full"].records.items():
        source = data_source(split, tmp_path, fields=("scene", "captions"))
        records = source.__getitems__(range(count))
        splits[split] = [(Scene.from_json(record["scene"]), record["captions"]) for record in records]
    check_splits(splits)


def test_recoloured_pictures_have_two_objects_in_half_and_unnamed_colours_in_half_and_no_held_out_pair():
    scenes = [describe("train", index, "recoloured")[0] for index in range(1000)]
    pairs = [(item.shape, nearest_name(item.colour)) for scene in scenes for item in scene.objects]
    assert not HELD_OUT & set(pairs)
    # Within three deviations of a share of 1000.
    assert abs(np.mean([len(scene.objects) == 2 for scene in scenes]) - 0.5) < 0.048
    assert abs(np.mean([not is_named(scene.background) for scene in scenes]) - 0.5) < 0.048
    assert describe("train", 7, "recoloured")[2] == [], "only the contrasts have wrong captions"
    assert describe("test", 7, "recoloured") == describe("test", 7)


def test_contrasts_are_the_full_data_and_as_many_scenes_of_which_most_have_other_colours(tmp_path):
    """And two objects, in 70 %. To every caption comes one in which one thing is not so. Of the tiny ones, each."""
    size, count = "contrasts_tiny", DATASET_SIZES["contrasts_tiny"].records["train"]
    described = [describe("train", index, size) for index in range(count)]
    recoloured, two = [], []
    for index, (scene, said, _) in enumerate(described):
        named = all(is_named(colour) for colour in (scene.background, *(item.colour for item in scene.objects)))
        assert named or index >= 96
        assert (scene, said) == describe("train", index)[:2] or index >= 96
        recoloured.append(not named)
        two.append(len(scene.objects) == 2)
    assert 0.5 < np.mean(recoloured[96:]) < 0.7 and 0.6 < np.mean(two[96:]) < 0.8
    records = data_source("train", tmp_path, size=size, fields=("thumbnail", "captions", "scene", "wrong_captions"))
    expected = [(scene.to_json(), *([text.text for text in texts] for texts in said)) for scene, *said in described]
    found = [(record["scene"], record["captions"], record["wrong_captions"]) for record in records]
    assert sorted(found) == sorted(expected)
    for record in records:
        np.testing.assert_array_equal(record["thumbnail"], thumbnail(draw(Scene.from_json(record["scene"]))))
    config = {"source": f"captioned_shapes/{size}", "dir": str(tmp_path), "image_field": "thumbnail"}
    source = open_source(DataSpec(**config), "train")
    assert [(record.captions, record.negative_captions) for record in source] == [
        (tuple(said), tuple(wrong)) for _, said, wrong in found
    ]
