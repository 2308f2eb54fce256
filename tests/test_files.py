"""Files and folders are whole or not there."""

import pytest

from unclip_jax.files import atomic_folder, atomic_write, check_writable


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_takes_the_place_of_the_one_before(tmp_path):
    atomic_write(tmp_path / "a.json", "old")
    atomic_write(tmp_path / "a.json", b"new")
    assert (tmp_path / "a.json").read_text() == "new" and names(tmp_path) == ["a.json"]


def test_a_write_that_fails_leaves_what_was_there_and_nothing_else(tmp_path, full_disk):
    atomic_write(tmp_path / "a.json", "old")
    with full_disk(100), pytest.raises(OSError, match="too large"):
        atomic_write(tmp_path / "a.json", "new" * 100)
    assert (tmp_path / "a.json").read_text() == "old" and names(tmp_path) == ["a.json"]


def test_a_folder_appears_when_it_is_full_and_what_broke_off_is_cleared_away(tmp_path):
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


def test_atomic_folder_refuses_existing_paths_it_was_not_told_to_replace(tmp_path):
    (tmp_path / "a").mkdir()
    with atomic_folder(tmp_path / "a") as new:  # an empty folder has nothing to lose
        (new / "mine").write_text("")
    (tmp_path / "file").write_text("mine")
    for name, replace in (("a", None), ("a", lambda path: names(path) == ["old"]), ("file", None)):
        with pytest.raises(ValueError, match=f"{name}' exists already and is not replaced"):
            with atomic_folder(tmp_path / name, replace=replace):
                raise AssertionError("the block must not run")
    with pytest.raises(ValueError, match="b' exists already"), atomic_folder(tmp_path / "b") as new:
        (tmp_path / "b").write_text("appeared during the block")
    assert names(tmp_path / "a") == ["mine"] and names(tmp_path) == ["a", "b", "file"]
    assert (tmp_path / "file").read_text() == "mine"


def test_atomic_folder_restores_what_was_there_when_killed_between_its_renames(tmp_path):
    (tmp_path / ".a.unclip-old").mkdir()
    (tmp_path / ".a.unclip-old" / "mine").write_text("")
    with pytest.raises(ValueError, match="exists already"), atomic_folder(tmp_path / "a"):
        raise AssertionError("the block must not run")
    assert names(tmp_path / "a") == ["mine"] and names(tmp_path) == ["a"]


def test_whether_a_file_can_be_written_is_found_out_without_writing_it(tmp_path):
    (tmp_path / "a.json").write_text("old")
    check_writable(tmp_path / "a.json")
    check_writable(tmp_path / "b.json")
    assert (tmp_path / "a.json").read_text() == "old" and names(tmp_path) == ["a.json"]
    with pytest.raises(OSError):
        check_writable(tmp_path / "a.json" / "b.json")
