"""Packaging of trained stages into a cascade folder."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from etils import epath

from unclip_jax import parameters
from unclip_jax.arrays import PyTree
from unclip_jax.cascades import folder as layout
from unclip_jax.cascades.embedding import locate_clip
from unclip_jax.cascades.folder_writing import StageFiles, check_output, write_stages
from unclip_jax.cascades.sources import is_bundled, is_cascade, resolve
from unclip_jax.deprecation import warn_renamed
from unclip_jax.experiment.workdir import Trained, current_config, read_workdir
from unclip_jax.folder_lock import lock_folder
from unclip_jax.folder_update import recover
from unclip_jax.kinds import kind_of
from unclip_jax.stages.spec import EncoderRef, StageSpec
from unclip_jax.training.checkpoints import restore_extras

REQUIRED_PROVENANCE = ("steps", "global_batch", "seed", "data", "split", "from")  # for stages of bundled cascades


def package(
    workdirs: Sequence[epath.PathLike],
    cascade: epath.PathLike,
    *,
    clip: epath.PathLike | None = None,
    description: str | None = None,
    draws: str | None = None,
) -> list[str]:
    """Writes the latest EMA parameters of each workdir to a cascade folder, as float16.

    Stages that the cascade already contains are replaced, and its other stages are kept. The sampling settings are
    those of the last call of `unclip train` for the workdir, which may have been made after the training finished.

    Args:
      workdirs: Folders of runs of different stages.
      cascade: Folder to create, or an existing cascade.
      clip: Name or folder of a cascade whose CLIP is included unchanged. If None, none is included.
      description: Description of the images that the cascade can generate, see `Cascade`. If None, the description of
        an existing cascade is kept.
      draws: Deprecated name of `description`.

    Returns:
      Names of the stages that were written.

    Raises:
      ValueError: If a workdir has no checkpoint, two workdirs have the same stage, a stage was trained with an encoder
        that the cascade does not contain, the provenance of a stage of a bundled cascade is incomplete, or the folder
        contains anything else or is in use. Nothing is written in these cases.
    """
    if draws is not None:
        warn_renamed("draws=", "description=", where="unclip_jax")
        description = draws
    trained = [read_workdir(workdir) for workdir in workdirs]
    names = [(str(one.workdir), one.config.stage.name) for one in trained]
    source, included = (None, None) if clip is None else locate_clip(clip)
    _check_distinct(names + ([] if clip is None else [(f"--clip {clip}", included)]))
    check_output(cascade, [name for _, name in names] + ([] if clip is None else [included]))
    with lock_folder(cascade, what="cascade"):  # the cascade must not change between reading and writing
        recover(cascade)
        taken = {} if clip is None else {included: _included(resolve(source), included)}
        _write(trained, taken, cascade, description)
    return [name for _, name in names] + ([] if clip is None else [included])


def _write(
    trained: Sequence[Trained], taken: Mapping[str, StageFiles], cascade: epath.PathLike, description: str | None
) -> None:
    stages, own = dict(taken), {one.config.stage.name: _files(one) for one in trained}
    # Computing digests reads all parameters. It is only needed if a stage was trained with an encoder.
    refers = any(one.digests for one in trained)
    encoders = _encoder_digests({**own, **taken}, cascade) if refers else {}
    for one in trained:
        files = own[one.config.stage.name]
        stages[files.spec.name] = dataclasses.replace(files, spec=_with_encoders(files.spec, one, encoders, cascade))
    if is_bundled(cascade):
        _check_provenance([files.spec for files in stages.values()])
    write_stages(cascade, stages, description=description)


def _files(trained: Trained) -> StageFiles:
    """Returns the files of a trained stage, whose parameters are read only when they are written."""
    stage, kind = trained.config.stage, trained.config.stage_kind
    return StageFiles(
        spec=dataclasses.replace(
            stage, sampling=current_config(trained.workdir).stage.sampling, provenance=trained.provenance
        ),
        params=functools.partial(_params, trained),
        extras=restore_extras(trained.workdir) or {},
        tokenizer=trained.workdir / layout.TOKENIZER if kind.tokenizer is not None else None,
        dtype=np.float16,
    )


def _params(trained: Trained) -> tuple[PyTree]:
    return (trained.restore().params,)


def _included(cascade: epath.Path, name: str) -> StageFiles:
    """Returns the files of a packaged stage, with float16 parameters if that changes no value."""
    stored = layout.read_stages(cascade)[name]
    stage = layout.load(stored, dtype="float32")
    halves = jax.tree.map(np.float16, stage.params)
    is_exact = jax.tree.all(jax.tree.map(np.array_equal, halves, stage.params))
    params = halves if is_exact else jax.tree.map(np.asarray, stage.params)
    return StageFiles(spec=stage.spec, params=params, extras=stage.extras, tokenizer=stored.tokenizer, dtype=None)


def _encoder_digests(stages: Mapping[str, StageFiles], cascade: epath.PathLike) -> dict[str, str]:
    """Returns {stage: digest of its parameters in float32} for the encoders that the cascade will contain."""
    digests = {}
    if is_cascade(cascade):
        for name, stored in layout.read_stages(resolve(cascade)).items():
            if name not in stages and kind_of(stored.spec).produces == "features":
                digests[name] = parameters.digest_of_file(stored.folder / layout.PARAMS)
    for name, files in stages.items():
        if kind_of(files.spec).produces == "features":
            params = files.params()[0] if callable(files.params) else files.params
            stored = params if files.dtype is None else jax.tree.map(files.dtype, params)
            digests[name] = parameters.digest(jax.tree.map(np.float32, stored))
    return digests


def _with_encoders(
    spec: StageSpec, trained: Trained, encoders: Mapping[str, str], cascade: epath.PathLike
) -> StageSpec:
    """Returns the spec with references to the encoders of the cascade."""
    refs = {}
    for role, digest in trained.digests.items():
        stage = next((name for name, other in encoders.items() if other == digest), None)
        if stage is None:
            available = ", ".join(f"{name} with digest {other}" for name, other in encoders.items()) or "no encoder"
            raise ValueError(
                f"{spec.name} was trained with a CLIP of digest {digest}, but the cascade {str(cascade)!r} contains "
                f"{available}. Include the CLIP that {spec.name} was trained with."
            )
        refs[role] = EncoderRef(stage=stage, digest=digest)
    return dataclasses.replace(spec, encoders=refs)


def _check_distinct(stages: Sequence[tuple[str, str]]) -> None:
    """Raises ValueError if two (source, stage name) pairs have the same stage name."""
    sources: dict[str, str] = {}
    for source, stage in stages:
        if stage in sources:
            raise ValueError(
                f"Workdirs must be of different stages, got {sources[stage]!r} and {source!r}, both of stage "
                f"{stage!r}. Package one of them."
            )
        sources[stage] = source


def _check_provenance(specs: Sequence[StageSpec]) -> None:
    """Raises ValueError if the provenance of a stage is incomplete."""
    for spec in specs:
        missing = [field for field in REQUIRED_PROVENANCE if field not in (spec.provenance or {})]
        if missing:
            raise ValueError(
                f"provenance of {spec.name} lacks {', '.join(missing)}. Stages of a bundled cascade must be trained "
                "from the first step by a version of `unclip train` that records these fields."
            )
