"""Files and folders are whole or not there."""

import pytest

from unclip_jax.files import check_writable, atomic_folder, atomic_write


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
    with pytest.raises(ZeroDivisionError), atomic_folder(tmp_path / "a") as new:
        (new / "half").write_text("")
        raise ZeroDivisionError
    assert names(tmp_path / "a") == ["old"]
    with atomic_folder(tmp_path / "a") as new:
        assert names(new) == []
        (new / "new").write_text("")
    assert names(tmp_path / "a") == ["new"] and names(tmp_path) == ["a"]


def test_whether_a_file_can_be_written_is_found_out_without_writing_it(tmp_path):
    (tmp_path / "a.json").write_text("old")
    check_writable(tmp_path / "a.json")
    check_writable(tmp_path / "b.json")
    assert (tmp_path / "a.json").read_text() == "old" and names(tmp_path) == ["a.json"]
    with pytest.raises(OSError):
        check_writable(tmp_path / "a.json" / "b.json")
