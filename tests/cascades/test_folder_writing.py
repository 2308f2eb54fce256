"""Writing of cascade folders: locking and stage names."""

import threading

import numpy as np
import pytest

from tests.cascades import tiny
from unclip_jax.cascades import folder_writing
from unclip_jax.cascades.cascade import execution_order
from unclip_jax.cascades.folder import read_specs
from unclip_jax.cascades.folder_writing import write_stages
from unclip_jax.folder_lock import FolderInUse


def test_concurrent_writer_is_rejected(tmp_path, monkeypatch):
    """A stage written between reading the index and the update would be lost from the index."""
    copy = tiny.write_tiny_cascade(tmp_path / "cascade")
    files, refused = tiny.files("decoder", {"kernel": np.ones(3)}), []

    def write_other():
        try:
            write_stages(copy, {"other": files})
        except FolderInUse as error:
            refused.append(str(error))

    def order(specs):
        if threading.current_thread() is threading.main_thread():
            other = threading.Thread(target=write_other)
            other.start()
            other.join()
        return execution_order(specs)

    before = list(read_specs(copy))
    monkeypatch.setattr(folder_writing, "execution_order", order)
    write_stages(copy, {"decoder": files})
    assert len(refused) == 1 and "cascade" in refused[0]
    assert list(read_specs(copy)) == before and not (copy / "other").exists()


@pytest.mark.parametrize("name", ["", ".", "../x", "a/b", "/tmp/x", "tokenizer", "cascade.json"])
def test_invalid_stage_names_are_rejected_before_writing(tmp_path, name):
    files = tiny.files("decoder", {"kernel": np.ones(3)})
    with pytest.raises(ValueError, match="^name of a stage must"):
        write_stages(tmp_path / "out", {name: files})
    assert not (tmp_path / "out").exists()
