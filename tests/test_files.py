"""Atomic writes of files and folders."""

import pytest

from unclip_jax.files import atomic_folder, atomic_write, check_writable


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_atomic_write_replaces_an_existing_file(tmp_path):
    atomic_write(tmp_path / "a.json", "old")
    atomic_write(tmp_path / "a.json", b"new")
    assert (tmp_path / "a.json").read_text() == "new" and names(tmp_path) == ["a.json"]


def test_atomic_write_keeps_the_old_file_when_it_fails(tmp_path, full_disk):
    atomic_write(tmp_path / "a.json", "old")
    with full_disk(100), pytest.raises(OSError, match="too large"):
        atomic_write(tmp_path / "a.json", "new" * 100)
    assert (tmp_path / "a.json").read_text() == "old" and names(tmp_path) == ["a.json"]


def test_atomic_folder_appears_only_when_complete(tmp_path):
    with atomic_folder(tmp_path / "a") as new:
        (new / "old").write_text("")
    with pytest.raises(ZeroDivisionError), atomic_folder(tmp_path / "a", replace=lambda path: True) as new:
        (new / "half").write_text("")
        raise ZeroDivisionError
    assert names(tmp_path / "a") == ["old"]
    assert names(tmp_path) == ["a"]
    with atomic_folder(tmp_path / "a", replace=lambda path: names(path) == ["old"]) as new:
        assert names(new) == []
        (new / "new").write_text("")
    assert names(tmp_path / "a") == ["new"] and names(tmp_path) == ["a"]


def test_atomic_folder_rejects_existing_paths_that_may_not_be_replaced(tmp_path):
    (tmp_path / "a").mkdir()
    with atomic_folder(tmp_path / "a") as new:  # an empty folder may be replaced
        (new / "mine").write_text("")
    (tmp_path / "file").write_text("mine")
    for name, replace in (("a", None), ("a", lambda path: names(path) == ["old"]), ("file", None)):
        with (
            pytest.raises(ValueError, match=f"{name}' already exists"),
            atomic_folder(tmp_path / name, replace=replace),
        ):
            raise AssertionError("the block must not run")
    with pytest.raises(ValueError, match="b' already exists"), atomic_folder(tmp_path / "b") as new:
        (tmp_path / "b").write_text("appeared during the block")
    assert names(tmp_path / "a") == ["mine"] and names(tmp_path) == ["a", "b", "file"]
    assert (tmp_path / "file").read_text() == "mine"


def test_atomic_folder_restores_the_old_folder_when_killed_between_renames(tmp_path):
    (tmp_path / ".a.unclip-old").mkdir()
    (tmp_path / ".a.unclip-old" / "mine").write_text("")
    with pytest.raises(ValueError, match="already exists"), atomic_folder(tmp_path / "a"):
        raise AssertionError("the block must not run")
    assert names(tmp_path / "a") == ["mine"] and names(tmp_path) == ["a"]


def test_check_writable_does_not_change_files(tmp_path):
    (tmp_path / "a.json").write_text("old")
    check_writable(tmp_path / "a.json")
    check_writable(tmp_path / "b.json")
    assert (tmp_path / "a.json").read_text() == "old" and names(tmp_path) == ["a.json"]
    with pytest.raises(OSError):
        check_writable(tmp_path / "a.json" / "b.json")
