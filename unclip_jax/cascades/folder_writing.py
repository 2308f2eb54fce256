"""Writing of cascade folders, with all stages and the index in one atomic update."""

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from unclip_jax import parameters
from unclip_jax.arrays import PyTree
from unclip_jax.cascades import folder as layout
from unclip_jax.cascades.cascade import execution_order
from unclip_jax.cascades.recognition import ADVICE, check_replaceable, contents, is_tokenizer
from unclip_jax.folder_lock import lock_folder
from unclip_jax.folder_update import current, folder_update, is_new, recover
from unclip_jax.stages.spec import SCHEMA, StageSpec, check_stage_name
from unclip_jax.tokenizers.files import copy_tokenizer


@dataclasses.dataclass(frozen=True, eq=False)
class StageFiles:
    """Content of a stage to write.

    Attributes:
      spec: Spec of the stage.
      params: Parameters. Alternatively, a function that returns a sequence of one or two trees: the parameters and, if
        `spec.last_step_params` is set, those of the last sampling step. With functions, only one stage is in memory at
        a time.
      last_step_params: Parameters of the last sampling step, if `spec.last_step_params` is set and `params` is not a
        function.
      extras: Untrained arrays, written as float32.
      tokenizer: Folder of the tokenizer. If None, the stage does not read captions itself.
      dtype: Dtype of the stored parameters. If None, each array keeps its dtype.
    """

    spec: StageSpec
    params: PyTree | Callable[[], Sequence[PyTree]]
    last_step_params: PyTree | None = None
    extras: Mapping[str, PyTree] = dataclasses.field(default_factory=dict)
    tokenizer: epath.PathLike | None = None
    dtype: Any = np.float16


def write_stages(folder: epath.PathLike, stages: Mapping[str, StageFiles], *, description: str | None = None) -> None:
    """Writes stages to a new or existing cascade folder.

    Existing stages of the same name are replaced; other stages are kept. Readers see the previous content until
    everything is written. Folders of schema 1 are upgraded.

    Args:
      folder: The cascade folder.
      stages: Stages to write, by name.
      description: Description of the images that the cascade can generate, see `Cascade`. If None, an existing
        description is kept.

    Raises:
      ValueError: If the folder or an entry that would be replaced was not written by this package, or if another
        process is updating the folder. Nothing is written in this case.
    """
    folder = epath.Path(folder)
    check_output(folder, stages)
    with lock_folder(folder, what="cascade"):  # nothing read here may change before it is written
        recover(folder)
        _update(folder, stages, description)


def _update(folder: epath.Path, stages: Mapping[str, StageFiles], description: str | None) -> None:
    index = layout.read_index(folder) if current(folder, layout.INDEX).exists() else {"schema": SCHEMA, "stages": []}
    kept = layout.read_stages(folder) if index["stages"] else {}
    specs = {name: stored.spec for name, stored in kept.items()} | {name: one.spec for name, one in stages.items()}
    upgraded = {name: stored for name, stored in kept.items() if index["schema"] != SCHEMA and name not in stages}
    if description is None:
        description = index.get("description", index.get("draws"))
    new_index = {"schema": SCHEMA, "stages": execution_order(specs)}
    new_index |= {} if description is None else {"description": description}
    with folder_update(folder) as new:
        for name, stored in upgraded.items():
            _copy_stage(stored, new / name)
        for name, one in stages.items():
            _write_stage(one, new / name)
        (new / layout.INDEX).write_text(json.dumps(new_index, indent=1) + "\n")
    unused = folder / layout.TOKENIZER  # shared by all stages in schema 1
    if index["schema"] != SCHEMA and is_tokenizer(unused):
        unused.rmtree()


def check_output(folder: epath.PathLike, stages: Iterable[str]) -> None:
    """Checks that writing stages to a folder would replace nothing but packaged stages.

    Args:
      folder: A new folder, an empty folder or a cascade folder.
      stages: Names of the stages to write.

    Raises:
      ValueError: If a name is invalid, if `folder` contains something else, if its cascade.json cannot be read, or if a
        path that would be replaced is not a packaged stage.
    """
    folder = epath.Path(folder)
    for name in stages:
        check_stage_name(name)
    if is_new(folder):
        return
    if not current(folder, layout.INDEX).exists():
        expected = "a new folder, an empty folder or a cascade"
        raise ValueError(f"{str(folder)!r} must be {expected}, got {contents(folder)}. {ADVICE}")
    layout.read_index(folder)
    for name in stages:
        check_replaceable(current(folder, name))


def _write_stage(stage: StageFiles, folder: epath.Path) -> None:
    folder.mkdir()
    trees = stage.params() if callable(stage.params) else (stage.params, stage.last_step_params)
    for file, tree in zip((layout.PARAMS, layout.LAST_PARAMS), trees, strict=False):
        if tree is not None:
            parameters.save(folder / file, tree, dtype=stage.dtype)
    _write_rest(folder, stage.spec, stage.extras, stage.tokenizer)


def _copy_stage(stored: layout.StoredStage, folder: epath.Path) -> None:
    """Writes a stage of a schema-1 folder in the current schema, with its tensor files unchanged."""
    folder.mkdir()
    for name in (layout.PARAMS, layout.LAST_PARAMS)[: 1 + stored.spec.last_step_params]:
        (stored.folder / name).copy(folder / name)
    _write_rest(folder, stored.spec, stored.extras or {}, stored.tokenizer)


def _write_rest(folder: epath.Path, spec: StageSpec, extras: PyTree, tokenizer: epath.PathLike | None) -> None:
    if extras:
        parameters.save(folder / layout.EXTRAS, extras, dtype=np.float32)
    if tokenizer is not None:
        (folder / layout.TOKENIZER).mkdir()
        copy_tokenizer(tokenizer, folder / layout.TOKENIZER)
    (folder / layout.CONFIG).write_text(json.dumps(spec.to_json(), indent=1) + "\n")
