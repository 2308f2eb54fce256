"""Outputs of `unclip package`: only cascades are replaced, and interrupted updates are atomic."""

import dataclasses
import json
import pathlib
import shutil

import numpy as np
import pytest

from tests.cascades.tiny import CONFIGS, spec, write_tiny_cascade
from tests.killed import Killed, killed_after
from unclip_jax import experiment, parameters
from unclip_jax.__main__ import main
from unclip_jax.cascades import folder as folders
from unclip_jax.cascades.embedding import load_clip
from unclip_jax.cascades.folder_writing import StageFiles, write_stages
from unclip_jax.cascades.loading import load_cascade
from unclip_jax.experiment import workdir as trained
from unclip_jax.folder_update import COMMITTED, STAGED, current
from unclip_jax.training.checkpoint_record import CheckpointRecord
from unclip_jax.training.checkpoints import Restored


def files(path: pathlib.Path) -> dict[str, bytes]:
    """Returns all files in a folder and its subfolders, as {path: content}."""
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def visible(cascade: pathlib.Path) -> dict[str, bytes]:
    """Returns the files of a cascade as a reader finds them, and files of the user."""
    names = {path.name for part in (cascade, cascade / COMMITTED) if part.exists() for path in part.iterdir()}
    found = {}
    for name in names - {COMMITTED, STAGED, ".lock"}:
        entry = pathlib.Path(current(cascade, name))
        found |= {f"{name}/{file}": content for file, content in files(entry).items()}
        found |= {name: entry.read_bytes()} if entry.is_file() else {}
    return found


def package(cascade: pathlib.Path, out: pathlib.Path) -> int:
    """Packages the CLIP model of another cascade, which requires no training."""
    return main(["package", "--clip", str(cascade), "--out", str(out)])


def rejection(capsys, *arguments) -> str:
    """Runs `unclip package`, checks that it fails with one line, and returns that line."""
    capsys.readouterr()
    assert main(["package", *map(str, arguments)]) == 2
    message = capsys.readouterr().err
    assert message.startswith("unclip package: ") and message.count("\n") == 1 and "Traceback" not in message
    return message


@pytest.fixture
def copy(folder, tmp_path) -> pathlib.Path:
    """A copy of the cascade with a file of the user."""
    shutil.copytree(folder, tmp_path / "cascade")
    (tmp_path / "cascade" / "README.md").write_text("mine")
    return tmp_path / "cascade"


@pytest.fixture
def workdirs(tmp_path, monkeypatch, folder):
    """Creates fake workdirs, whose checkpoints are replaced by the parameters of a packaged decoder."""
    params = load_cascade(folder, stages=["decoder"], dtype="float32").stages["decoder"].params
    frozen = {"clip": parameters.digest_of_file(folder / "clip" / folders.PARAMS)}
    known, read = {}, []

    def make(name: str, stage: str) -> pathlib.Path:
        workdir = tmp_path / name
        (workdir / "checkpoints" / "4").mkdir(parents=True)
        sections = {name: CONFIGS["decoder"][name] for name in ("model", "diffusion", "sampling")}
        training = {"global_batch": 8, "seed": 0}
        task, encoders = {"kind": "decoder", "stage": stage}, {"clip": str(folder)}
        known[str(workdir)] = {"task": task, "training": training, "encoders": encoders, **sections}
        (workdir / "config.json").write_text(json.dumps(known[str(workdir)]))
        (workdir / "metrics.jsonl").write_text("{}\n")
        return workdir

    def restored(workdir):
        read.append(workdir)
        return Restored(4, record(workdir)[1], params, variables={}, extras={})

    def record(workdir):
        return 4, CheckpointRecord(config=known[str(workdir)], frozen=frozen, provenance=None, arrays={})

    monkeypatch.setattr(trained, "restore_record", record)
    monkeypatch.setattr(trained, "restore_params", restored)
    make.read = read
    return make


def test_package_rejects_folders_of_workdirs_as_output(workdirs, tmp_path, capsys):
    workdir = workdirs("runs/decoder", "decoder")
    before = files(tmp_path)
    message = rejection(capsys, workdir, "--out", tmp_path / "runs")
    assert f"'{tmp_path}/runs' must be a new folder, an empty folder or a" in message and "contains decoder" in message
    message = rejection(capsys, workdir, "--out", workdir)
    assert "contains checkpoints, config.json, metrics.jsonl. Move it away, or choose another folder" in message
    assert files(tmp_path) == before and workdirs.read == []  # rejected before parameters are read


@pytest.mark.parametrize("content", ["checkpoints", "image", "note", "no_kind", "no_config", "nested", "file"])
def test_package_rejects_replacing_folder_that_is_not_a_stage(workdirs, copy, capsys, content):
    stage = copy / "decoder"
    if content == "checkpoints":
        shutil.rmtree(stage)
        shutil.move(workdirs("mine", "decoder"), stage)
    elif content == "no_kind":
        (stage / "config.json").write_text('{"model": {}}')
    elif content == "no_config":
        (stage / "config.json").unlink()
    elif content == "file":
        shutil.rmtree(stage)
        stage.write_text("mine")
    else:
        name = {"image": "cat.png", "note": "tokenizer/notes.txt", "nested": "params.safetensors.d/a"}[content]
        (stage / name).parent.mkdir(exist_ok=True)
        (stage / name).write_text("mine")
    workdir, before = workdirs("run", "decoder"), files(copy)
    message = rejection(capsys, workdir, "--out", copy)
    actual = "a file" if content == "file" else "a folder that contains "
    assert f"{str(stage)!r} must be a packaged stage to be replaced, got {actual}" in message
    assert "Move it away" in message and files(copy) == before


def test_package_rejects_replacing_tokenizer_folder_with_other_files(folder, copy, capsys):
    (copy / "clip" / "tokenizer" / "words.txt").write_text("mine")
    before = files(copy)
    message = rejection(capsys, "--clip", folder, "--out", copy)
    assert (
        f"'{copy}/clip' must be a packaged stage to be replaced" in message
        and "with words.txt in tokenizer." in message
    )
    assert files(copy) == before


def test_package_rejects_corrupt_or_newer_cascade_json(folder, copy, capsys):
    for content, words in (
        ("{", "cannot be read as JSON"),
        ('{"schema": 7, "stages": []}', "written by a newer version of unclip_jax: schema must be at most 2, got 7"),
    ):
        (copy / "cascade.json").write_text(content)
        before = files(copy)
        assert words in rejection(capsys, "--clip", folder, "--out", copy)
        assert files(copy) == before


def test_load_rejects_stage_config_of_newer_version(copy):
    config = json.loads((copy / "decoder" / "config.json").read_text())
    (copy / "decoder" / "config.json").write_text(json.dumps({**config, "schema": 3}))
    with pytest.raises(ValueError, match="decoder/config.json' was written by a newer version .* 2, got 3"):
        load_cascade(copy, stages=["decoder"])


@pytest.mark.parametrize("name", ["tokenizer", "cascade.json", "../outside", ".hidden", ""])
def test_package_rejects_stage_names_that_are_not_folder_names(workdirs, copy, tmp_path, capsys, name):
    message = rejection(capsys, workdirs("run", name), "--out", copy)
    assert "config.task.stage: name of a stage must " in message
    assert not (tmp_path / "outside").exists()


def test_package_rejects_two_workdirs_of_one_stage(workdirs, tmp_path, folder, capsys):
    first, second = workdirs("a", "decoder"), workdirs("b", "decoder")
    message = rejection(capsys, first, second, "--out", tmp_path / "out")
    assert f"{str(first)!r} and {str(second)!r}, both of stage 'decoder'" in message
    clip = workdirs("c", "clip")
    message = rejection(capsys, clip, "--clip", folder, "--out", tmp_path / "out")
    assert f"{str(clip)!r} and '--clip {folder}', both of stage 'clip'" in message
    assert not (tmp_path / "out").exists()


def test_package_keeps_files_of_the_user_and_replaces_the_stage(workdirs, copy):
    before = files(copy)
    assert main(["package", str(workdirs("run", "decoder")), "--out", str(copy)]) == 0
    after = files(copy)
    assert after.keys() == before.keys() and after["README.md"] == b"mine"
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"decoder/config.json"}  # the same parameters, with how they were trained
    assert json.loads(after["decoder/config.json"])["provenance"]["steps"] == 4


def test_package_on_a_full_disk_leaves_the_old_cascade(folder, copy, capsys, full_disk):
    before = files(copy)
    with full_disk(20000):
        assert "too large" in rejection(capsys, "--clip", folder, "--out", copy)
    assert files(copy) == before
    assert package(folder, copy) == 0


def test_cascade_loads_as_old_or_new_when_packaging_is_killed_at_any_operation(folder, copy, tmp_path):
    params = load_cascade(folder, stages=["decoder"], dtype="float32").stages["decoder"].params
    index = json.loads((copy / "cascade.json").read_text())
    again = dataclasses.replace(spec("decoder"), last_step_params=True, provenance={"of": "again"})
    other = dataclasses.replace(spec("decoder"), name="decoder_2")
    changed = {"decoder": StageFiles(again, params, params), "decoder_2": StageFiles(other, params)}

    def write(cascade):
        write_stages(cascade, changed, description="again")

    write(whole := shutil.copytree(copy, tmp_path / "whole"))
    old, new = files(copy), files(whole)
    assert new.keys() - old.keys() == {
        "decoder/params_last.safetensors", "decoder_2/config.json", "decoder_2/params.safetensors"
    }  # fmt: skip
    seen = []
    for operations in range(1000):
        cascade = shutil.copytree(copy, tmp_path / str(operations))
        try:
            with killed_after(operations):
                write(cascade)
        except Killed:
            actual = visible(cascade)
            assert actual in (old, new)
            seen.append("new" if actual == new else "old")
            expected = sorted([*index["stages"], "decoder_2"]) if actual == new else sorted(index["stages"])
            if seen[-2:] != seen[-1:] * 2:  # load only the first of each
                assert list(load_cascade(cascade, stages=["decoder"]).stages) == ["decoder"]
                assert sorted(folders.read_index(cascade)["stages"]) == expected
            write(cascade)
            assert files(cascade) == new
            shutil.rmtree(cascade)
        else:
            assert files(cascade) == new
            break
    assert seen == sorted(seen, reverse=True) and set(seen) == {"old", "new"}


def test_readers_prefer_a_committed_update(folder, copy):
    """Stage, CLIP model and tokenizer are read from an update that was killed after its commit."""
    params = load_cascade(folder, stages=["decoder"], dtype="float32").stages["decoder"].params
    shutil.copytree(copy, copy / COMMITTED, ignore=lambda *_: [COMMITTED])
    for path in copy.iterdir():  # only the committed update can be read
        if path.is_dir() and path.name != COMMITTED:
            shutil.rmtree(path)
    (copy / "cascade.json").unlink()
    assert list(load_cascade(copy).stages) == list(CONFIGS)
    stage = folders.load_stage(copy / "decoder", dtype="float32")
    np.testing.assert_array_equal(stage.params["unet"]["conv_in"]["bias"], params["unet"]["conv_in"]["bias"])
    assert stage.name == "decoder"
    assert load_clip(copy / "clip").tokenizer is not None
    assert package(copy, copy) == 0 and not (copy / COMMITTED).exists()
    assert list(load_cascade(copy).stages) == list(CONFIGS)


def test_former_name_of_the_description_warns(tmp_path):
    source = write_tiny_cascade(tmp_path / "source")
    with pytest.warns(DeprecationWarning, match="draws= is now called description=."):
        experiment.package([], tmp_path / "out", clip=source, draws="a line")
    assert json.loads((tmp_path / "out" / "cascade.json").read_text())["description"] == "a line"
