"""Checkpoints: restoring, retention and detection of damage."""

import contextlib
import gc
import json
import os
import shutil
import time
import zlib

import jax
import numpy as np
import pytest

from unclip_jax.schema import NewerSchema
from unclip_jax.sharding.mesh import make_mesh
from unclip_jax.training import loop
from unclip_jax.training.checkpoint_record import DamagedCheckpoint, steps_saved
from unclip_jax.training.checkpoints import Checkpoints, restore_extras, restore_params, restore_record
from unclip_jax.training.compiled_functions import compile_functions
from unclip_jax.training.resume import check_workdir

EXTRAS = {"statistics": {"mean": np.arange(5, dtype=np.float32), "count": np.array([3], np.int32)}}


@pytest.fixture(scope="module")
def functions(make_tiny):
    return functions_over(make_tiny(), make_tiny()["mesh"])


def functions_over(tiny, mesh):
    batch = next(tiny["train_data"].batches(0))
    return compile_functions(tiny["task"], config=tiny["config"], frozen=tiny["frozen"], batch=batch, mesh=mesh)


@pytest.fixture(scope="module")
def written(make_tiny, functions, tmp_path_factory):
    """A workdir after saving steps 1 to 4 with keep=2, and the state of step 4."""
    tiny, workdir = make_tiny(), tmp_path_factory.mktemp("written")
    checkpoints, state = Checkpoints(workdir, keep=2), functions.initialize()
    batches = tiny["train_data"].batches(0)
    for _ in range(4):
        state, _ = functions.train(state, tiny["frozen"], next(batches))
        checkpoints.save(state, EXTRAS, config=tiny["config"].to_json(), frozen={"scale": "abc"})
    checkpoints.close()
    return workdir, jax.tree.map(np.array, state)


@pytest.fixture
def saved(written, tmp_path):
    """A copy of `written` that the test may damage."""
    workdir, state = written
    return shutil.copytree(workdir, tmp_path / "workdir"), state


def assert_same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_restored_state_is_identical_and_latest_two_checkpoints_are_kept(saved, functions):
    workdir, state = saved
    assert sorted(path.name for path in (workdir / "checkpoints").iterdir()) == ["3", "4"]
    assert steps_saved(workdir) == [3, 4]
    checkpoints = Checkpoints(workdir, keep=2)
    restored, extras = checkpoints.restore(4, functions.shapes)
    checkpoints.close()
    assert_same(jax.tree.map(np.asarray, restored), state)
    assert_same(extras, EXTRAS)
    assert restored.step.dtype == np.int32


def test_state_is_restored_onto_another_mesh(saved, tiny):
    workdir, state = saved
    shapes = functions_over(tiny, make_mesh(data=4, fsdp=2)).shapes
    checkpoints = Checkpoints(workdir, keep=2)
    restored, _ = checkpoints.restore(4, shapes)
    checkpoints.close()
    assert_same(jax.tree.map(np.asarray, restored), state)
    assert jax.tree.map(lambda leaf: leaf.sharding, restored) == jax.tree.map(lambda leaf: leaf.sharding, shapes)
    assert restored.params["hidden"]["kernel"].addressable_shards[0].data.shape == (48, 64)


def test_restore_params_returns_ema_as_numpy_with_config_and_extras(saved, tiny):
    workdir, state = saved
    restored = restore_params(workdir)
    assert_same(restored.params, state.ema)
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(restored.params))
    assert np.any(restored.params["out"]["kernel"] != state.params["out"]["kernel"])
    assert restored.step == 4 and restored.record.config == tiny["config"].to_json()
    assert_same(restored.extras, EXTRAS)
    assert_same(restore_extras(workdir), EXTRAS)
    assert restore_params(workdir, 3).step == 3


def test_restore_params_returns_unaveraged_parameters(saved):
    workdir, state = saved
    restored = restore_params(workdir, averaged=False)
    assert_same(restored.params, state.params)
    assert restored.step == 4


def test_keep_every_keeps_checkpoints_in_addition_to_latest(functions, tiny, tmp_path):
    checkpoints, state = Checkpoints(tmp_path, keep=1, keep_every=2), functions.initialize()
    batches = tiny["train_data"].batches(0)
    for _ in range(5):
        state, _ = functions.train(state, tiny["frozen"], next(batches))
        checkpoints.save(state, {}, config={}, frozen={})
    checkpoints.close()
    assert steps_saved(tmp_path) == [2, 4, 5]


def test_missing_checkpoint_is_rejected(saved, tmp_path_factory):
    empty = tmp_path_factory.mktemp("empty")
    with pytest.raises(ValueError, match=f"workdir '{empty}' contains no checkpoint"):
        restore_params(empty)
    with pytest.raises(ValueError, match="no checkpoint of step 2. Available: 3, 4"):
        restore_params(saved[0], 2)
    assert steps_saved(empty) == [] and restore_extras(empty) is None


def largest_file(workdir, step, item):
    """Returns the largest file of an item of a checkpoint."""
    return max((workdir / "checkpoints" / str(step) / item).rglob("*"), key=lambda path: path.stat().st_size)


@pytest.mark.parametrize("part", [0.01, 0.3, 0.5, 0.9])
def test_flipped_bit_is_detected_and_its_array_is_named(saved, functions, part):
    workdir, _ = saved
    file = largest_file(workdir, 4, "state")
    content = bytearray(file.read_bytes())
    content[int(len(content) * part)] ^= 1
    file.write_bytes(content)
    checkpoints = Checkpoints(workdir, keep=2)
    why = r"\(checksum mismatch: state/(params|opt_state)/.*/(kernel|bias)\)" if part > 0.1 else ""
    with pytest.raises(ValueError, match=f"checkpoints/4' is damaged {why}.*The previous checkpoint is of step 3"):
        checkpoints.restore(4, functions.shapes)
    checkpoints.close()
    assert restore_params(workdir).step == 4  # the EMA parameters are intact


def test_flipped_bit_of_ema_is_detected(saved):
    file = largest_file(saved[0], 4, "ema")
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match="checksum mismatch: ema/(hidden|out)/kernel"):
        restore_params(saved[0])


@pytest.mark.parametrize("keep", [0.5, 0.0])
def test_truncated_checkpoint_is_detected(saved, functions, keep):
    workdir, _ = saved
    data = largest_file(workdir, 4, "state")
    data.write_bytes(data.read_bytes()[: int(data.stat().st_size * keep)])
    checkpoints = Checkpoints(workdir, keep=2)
    with pytest.raises(ValueError, match="checkpoints/4' is damaged .*The previous checkpoint is of step 3"):
        checkpoints.restore(4, functions.shapes)
    checkpoints.close()


def test_damaged_record_is_detected(saved):
    workdir, _ = saved
    (workdir / "checkpoints" / "4" / "_CHECKPOINT_METADATA").write_text("{")
    with pytest.raises(ValueError, match="checkpoints/4' is damaged"):
        restore_params(workdir)


def rewrite_record(workdir, step, change):
    """Changes the record of a checkpoint and updates its checksum."""
    path = workdir / "checkpoints" / str(step) / "_CHECKPOINT_METADATA"
    content = json.loads(path.read_text())
    record = content["custom_metadata"]
    change(record)
    record["crc"] = zlib.crc32(
        json.dumps({name: record[name] for name in record if name != "crc"}, sort_keys=True).encode()
    )
    path.write_text(json.dumps(content))


def newer(record):
    record["schema"] = 2


def newer_with_other_fields(record):
    """Replaces the fields of a record by unknown ones."""
    for name in list(record):
        del record[name]
    record.update(schema=2, content="elsewhere")


@pytest.mark.parametrize("change", [newer, newer_with_other_fields])
def test_checkpoint_of_newer_schema_is_rejected_and_not_reported_as_damaged(saved, functions, tiny, tmp_path, change):
    workdir, _ = saved
    rewrite_record(workdir, 4, change)
    before = {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()}
    checkpoints = Checkpoints(workdir, keep=2)
    calls = {
        "restore": lambda: checkpoints.restore(4, functions.shapes),
        "restore_params": lambda: restore_params(workdir),
        "restore_extras": lambda: restore_extras(workdir),
        "restore_record": lambda: restore_record(workdir),
        "check_workdir": lambda: check_workdir(tiny["config"], workdir),
        "train": lambda: loop.train(**tiny, workdir=workdir),
    }
    message = f"checkpoint '{workdir}/checkpoints/4' was written by a newer version of unclip_jax: schema must"
    for name, call in calls.items():
        with pytest.raises(ValueError) as caught:
            call()
        assert type(caught.value) is NewerSchema, name
        assert str(caught.value).startswith(f"{message} be at most 1, got 2. Upgrade"), name
        assert not isinstance(caught.value, DamagedCheckpoint)
    checkpoints.close()
    assert {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()} == before


def test_newer_schema_before_damaged_checkpoint_is_rejected(saved, tiny):
    workdir, _ = saved
    rewrite_record(workdir, 3, newer)
    (workdir / "checkpoints" / "4" / "_CHECKPOINT_METADATA").write_text("{")
    for call in (lambda: restore_extras(workdir), lambda: loop.train(**tiny, workdir=workdir)):
        with pytest.raises(NewerSchema, match="checkpoints/3' was written by a newer version"):
            call()


def test_record_with_wrong_checksum_is_damaged(saved):
    workdir, _ = saved
    rewrite_record(workdir, 4, lambda record: None)  # rewriting alone does not damage the record
    assert restore_record(workdir)[1].config["training"]["steps"] == 12
    path = workdir / "checkpoints" / "4" / "_CHECKPOINT_METADATA"
    content = json.loads(path.read_text())
    content["custom_metadata"]["frozen"] = {"scale": "abd"}
    path.write_text(json.dumps(content))
    with pytest.raises(DamagedCheckpoint, match="the record does not match its checksum"):
        restore_record(workdir)


def test_checkpoint_of_another_network_is_rejected_with_names_and_shapes(saved, functions):
    workdir, _ = saved
    out = {"kernel": jax.ShapeDtypeStruct((128, 9), np.float32)}
    shapes = functions.shapes.replace(ema={**functions.shapes.ema, "out": out, "new": functions.shapes.step})
    checkpoints = Checkpoints(workdir, keep=2)
    message = r"does not match the network: .*ema/new must be \(\), got none.*ema/out/bias must be absent, got \(48,\)"
    with pytest.raises(ValueError, match=message):
        checkpoints.restore(4, shapes)
    checkpoints.close()


def wait_until_still(folder):
    """Waits until the folder has not changed for one second.

    The threads of Orbax continue to write a failed checkpoint. Without this test, they would end with the process.
    """
    before = None
    while (now := list(os.walk(folder))) != before:
        before = now
        time.sleep(1.0)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # in the writing threads of Orbax
def test_full_disk_keeps_complete_checkpoints(saved, functions, make_tiny, full_disk):
    workdir, before = saved
    record = {"config": make_tiny()["config"].to_json(), "frozen": {"scale": "abc"}}
    checkpoints = Checkpoints(workdir, keep=2)
    state, extras = checkpoints.restore(4, functions.shapes)
    state, _ = functions.train(state, make_tiny()["frozen"], next(make_tiny()["train_data"].batches(4)))
    message = r"cannot be written to .*checkpoints' \(.*large.*\)\. The latest complete checkpoint is of step 4\."
    with full_disk(3000), pytest.raises(OSError, match=message):
        checkpoints.save(state, extras, **record)
        checkpoints.wait()
    with contextlib.suppress(OSError):  # the failed save may be reported again
        checkpoints.close()
    gc.collect()
    wait_until_still(workdir)
    assert steps_saved(workdir) == [3, 4]
    checkpoints = Checkpoints(workdir, keep=2)
    assert_same(jax.tree.map(np.asarray, checkpoints.restore(4, functions.shapes)[0]), before)
    checkpoints.save(state, extras, **record)
    checkpoints.close()
    assert sorted(path.name for path in (workdir / "checkpoints").iterdir()) == ["4", "5"]
