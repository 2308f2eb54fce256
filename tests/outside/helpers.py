"""Shared by the tests of extensions in other packages."""

import pathlib

from tests.cascades import tiny
from tests.randomised import randomise
from unclip_jax.cascades.folder_writing import StageFiles, write_stages
from unclip_jax.kinds import kind_of
from unclip_jax.models.network import parameter_shapes
from unclip_jax.stages.spec import from_json

TEXT = {"embed_dim": tiny.EMBED, "text_width": tiny.EMBED, "context_length": tiny.CONTEXT}


def add_stage(folder: pathlib.Path, kind: str, name: str, content: dict) -> None:
    """Adds a stage with random parameters to a cascade folder."""
    spec = from_json(name, {"schema": 2, "kind": kind, **content}, where=name)
    params = randomise(parameter_shapes(kind_of(spec).build(spec, where=name)), seed=7)
    write_stages(folder, {name: StageFiles(spec, params)})


def only_line(capsys) -> str:
    """Returns the error output, which must be a single line."""
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    return error
