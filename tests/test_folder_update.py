"""Atomic folder updates: readers see the old or the new state, even if the updating process is killed."""

import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import pytest

from tests.killed import Killed, killed_after
from unclip_jax.folder_lock import FolderInUse, lock_folder
from unclip_jax.folder_update import COMMITTED, STAGED, current, entries, folder_update, is_new, recover

ROOT = pathlib.Path(__file__).parents[1]
MINE = {"README.md": "mine", "notes/a.txt": "mine too"}
OLD = {"kept/a": "kept", "stage/a": "old a", "stage/deep/b": "old b", "file": "old", "index": "old index"}
CHANGES = {"stage/a": "new a", "stage/c": "new c", "added/d": "new d", "file": "new", "index": "new index"}
NEW = {"kept/a": "kept", **CHANGES}
LATER = {"stage/e": "later", "index": "later index"}


def write(folder, contents):
    for name, text in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def update(folder, contents):
    with folder_update(folder) as new:
        write(new, contents)


def read(folder):
    """Returns the text of all files as seen by a reader, by path."""
    names = {path.name for path in folder.iterdir()} - {COMMITTED, STAGED, ".lock"}
    if (folder / COMMITTED).exists():
        names |= {path.name for path in (folder / COMMITTED).iterdir()}
    found = {}
    for name in names:
        entry = pathlib.Path(current(folder, name))
        for path in [entry, *entry.rglob("*")] if entry.is_dir() else [entry]:
            if path.is_file():
                found[str(pathlib.Path(name) / path.relative_to(entry))] = path.read_text()
    return found


def hidden(folder):
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


def first_killed(tmp_path, before, contents):
    """Yields one folder per file-system operation of an update, whose update was killed at that operation."""
    for operations in range(1000):
        folder = tmp_path / str(operations)
        if before:
            write(folder, before)
        try:
            with killed_after(operations):
                update(folder, contents)
        except Killed:
            yield folder
        else:
            return
    raise AssertionError("the update did not end")


def test_folder_update_replaces_entire_entries_and_keeps_others(tmp_path):
    write(tmp_path, OLD | MINE)
    update(tmp_path, CHANGES)
    assert read(tmp_path) == NEW | MINE and hidden(tmp_path) == []


def test_folder_update_killed_at_any_operation_reads_as_old_or_new(tmp_path):
    seen = []
    for folder in first_killed(tmp_path, OLD | MINE, CHANGES):
        found = read(folder)
        assert found in (OLD | MINE, NEW | MINE)
        seen.append("new" if found == NEW | MINE else "old")
        expected = {name: text for name, text in found.items() if not name.startswith("stage/")} | LATER
        update(folder, LATER)
        assert read(folder) == expected and hidden(folder) == []
    assert seen == sorted(seen, reverse=True)  # once committed, it stays committed
    assert seen.count("old") > 8 and seen.count("new") > 8


def test_recover_killed_at_any_operation_reads_as_new(tmp_path):
    """A second process is killed while it completes a committed update of the first."""

    def committed(folder):
        write(folder, OLD | MINE)
        write(folder / COMMITTED, CHANGES)

    for operations in range(1000):
        committed(folder := tmp_path / str(operations))
        try:
            with killed_after(operations):
                recover(folder)
        except Killed:
            assert read(folder) == NEW | MINE
            continue
        assert read(folder) == NEW | MINE and hidden(folder) == []
        assert operations > 8
        return


def test_folder_update_of_new_folder_killed_at_any_operation_is_new_or_complete(tmp_path):
    complete = 0
    for folder in first_killed(tmp_path, {}, CHANGES):
        if is_new(folder):
            assert not folder.exists() or not current(folder, "index").exists()
        else:
            assert read(folder) == CHANGES
            complete += 1
        update(folder, CHANGES)
        assert read(folder) == CHANGES and hidden(folder) == []
    assert complete > 3


def test_folder_update_leaves_no_files_when_it_fails(tmp_path, full_disk):
    write(tmp_path / "a", OLD | MINE)
    for folder, before in ((tmp_path / "a", OLD | MINE), (tmp_path / "deep" / "new", None)):
        with full_disk(1000), pytest.raises(OSError, match="too large"):
            update(folder, CHANGES | {"large": "x" * 2000})
        with pytest.raises(KeyboardInterrupt), folder_update(folder) as new:
            write(new, CHANGES)
            raise KeyboardInterrupt
        if before is None:
            assert not folder.parent.exists()
        else:
            assert read(folder) == before and hidden(folder) == []


def test_folder_update_flushes_new_files_before_the_commit(tmp_path, monkeypatch):
    flushed, fsync = [], os.fsync

    def record(descriptor):
        flushed.append((os.fstat(descriptor).st_ino, (tmp_path / COMMITTED).exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    update(tmp_path, CHANGES)
    written = {path.stat().st_ino for name in CHANGES for path in (tmp_path / name, (tmp_path / name).parent)}
    before = {number for number, committed in flushed if not committed}
    assert written - {tmp_path.stat().st_ino} <= before
    assert flushed[-1] == (tmp_path.stat().st_ino, True)  # the commit is flushed last


def test_folder_update_replaces_links_without_following_them(tmp_path):
    write(tmp_path / "mine", {"a": "mine"})
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "stage").symlink_to(tmp_path / "mine")
    (tmp_path / "folder" / "index").symlink_to(tmp_path / "mine" / "a")
    update(tmp_path / "folder", {"stage/a": "new", "index": "new index"})
    assert read(tmp_path / "folder") == {"stage/a": "new", "index": "new index"}
    assert (tmp_path / "mine" / "a").read_text() == "mine"


def test_is_new_ignores_files_of_an_uncommitted_update(tmp_path):
    write(tmp_path / "folder" / STAGED, CHANGES)
    assert is_new(tmp_path / "folder") and is_new(tmp_path / "missing") and entries(tmp_path / "folder") == []
    write(tmp_path / "folder", {"file": "mine"})
    assert not is_new(tmp_path / "folder") and not is_new(tmp_path / "folder" / "file")


def test_folder_update_rejects_a_concurrent_update(tmp_path):
    messages = []

    def second():
        try:
            update(tmp_path, {"file": "second"})
        except FolderInUse as error:
            messages.append(str(error))

    with folder_update(tmp_path) as new:
        write(new, {"file": "first"})
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
    assert messages == [
        f"folder {str(tmp_path)!r} is in use by another run (process {os.getpid()}). Wait until it has finished, stop "
        "it, or choose another folder."
    ]
    assert read(tmp_path) == {"file": "first"}


def test_lock_folder_removes_only_folders_it_created_and_left_empty(tmp_path):
    (tmp_path / "old").mkdir()
    for folder in (tmp_path / "old", tmp_path / "new" / "deep"):
        with lock_folder(folder), lock_folder(folder):  # nested by the same thread
            assert [path.name for path in folder.iterdir()] == [".lock"]
        assert folder.exists() == (folder.name == "old") and not (tmp_path / "new").exists()
    with lock_folder(tmp_path / "new"):
        (tmp_path / "new" / "file").write_text("")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file"]


ENDLESS = """
import itertools, sys
from unclip_jax.folder_update import folder_update
for number in itertools.count():
    with folder_update(sys.argv[1]) as new:
        for name in "abc":
            (new / name).mkdir()
            for file in range(5):
                (new / name / str(file)).write_text(str(number))
        (new / "index").write_text(str(number))
    print(number, flush=True)
"""


def test_folder_update_of_killed_processes_is_never_a_mixture(tmp_path):
    for kill in range(4):
        process = subprocess.Popen(
            [sys.executable, "-c", ENDLESS, str(tmp_path / "folder")], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        process.stdout.readline()
        time.sleep(0.01 * kill + 0.003)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        found = read(tmp_path / "folder")
        assert len(found) == 16 and len(set(found.values())) == 1
