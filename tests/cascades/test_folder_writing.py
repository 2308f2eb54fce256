"""Writing into a cascade folder: one writer at a time, from what it reads to what it writes."""

import dataclasses
import threading

import numpy as np
import pytest

from tests.cascades import tiny
from unclip_jax.cascades.folder import read_specs
from unclip_jax.cascades.folder_writing import write_stages
from unclip_jax.folder_lock import FolderInUse


def test_a_second_writer_is_refused_while_the_first_one_reads_and_writes(folder, tmp_path):
    copy = tiny.write_tiny_cascade(tmp_path / "cascade")
    files, refused = tiny.files("decoder", {"kernel": np.ones(3)}), []

    def write_other():
        try:
            write_stages(copy, {"other": files})
        except FolderInUse as error:
            refused.append(str(error))

    def params():
        other = threading.Thread(target=write_other)
        other.start()
        other.join()
        return (files.params,)

    before = list(read_specs(copy))
    write_stages(copy, {"decoder": dataclasses.replace(files, params=params)})
    assert len(refused) == 1 and "cascade" in refused[0]
    assert list(read_specs(copy)) == before and not (copy / "other").exists()


@pytest.mark.parametrize("name", ["", ".", "../x", "a/b", "/tmp/x", "tokenizer", "cascade.json"])
def test_names_that_are_other_files_are_refused_and_nothing_is_written(tmp_path, name):
    files = tiny.files("decoder", {"kernel": np.ones(3)})
    with pytest.raises(ValueError, match="^name of a stage must"):
        write_stages(tmp_path / "out", {name: files})
    assert not (tmp_path / "out").exists()
