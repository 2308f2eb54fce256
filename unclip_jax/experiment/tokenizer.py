"""Tokenizer of a stage that encodes captions, stored in WORKDIR/tokenizer."""

import jax
from etils import epath
from jax.experimental import multihost_utils

from unclip_jax import files
from unclip_jax.cascades.folder import CONFIG, TOKENIZER, read_stage
from unclip_jax.cascades.recognition import is_tokenizer
from unclip_jax.data.records import Source
from unclip_jax.experiment.spec import ExperimentConfig
from unclip_jax.experiment.workdir import is_workdir
from unclip_jax.folder_update import current
from unclip_jax.stages.stage import CaptionTokenizer
from unclip_jax.tokenizers.clip_bpe import add_known_words, train_tokenizer
from unclip_jax.tokenizers.files import copy_tokenizer
from unclip_jax.tokenizers.open import open_tokenizer


def own_tokenizer(config: ExperimentConfig, source: Source, workdir: epath.PathLike) -> CaptionTokenizer:
    """Opens the tokenizer of a workdir, and creates it first if it is missing.

    A new tokenizer is trained on the captions of the training split. A stage with `config.training.init_from` instead
    copies the tokenizer of those weights and adds the words of the captions to its known words. Only process 0 writes.

    Args:
      config: Config of the run.
      source: The training split.
      workdir: Folder of the run.

    Raises:
      ValueError: If `config.training.init_from` has no tokenizer, or if the tokenizer does not match the network.
    """
    directory = epath.Path(workdir) / TOKENIZER
    if jax.process_index() == 0 and not (directory / "vocab.json").exists():
        _write(config, source, directory)
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices("tokenizer")
    return open_tokenizer(directory, config.stage_kind.tokenizer, config.stage.model, name="config.model")


def _write(config: ExperimentConfig, source: Source, directory: epath.Path) -> None:
    initial = config.training.init_from and _tokenizer_of(config.training.init_from)
    with files.atomic_folder(directory, replace=is_tokenizer) as new:
        if initial:
            copy_tokenizer(initial, new)
            add_known_words(new, source.captions())
        else:
            sizes = {name: config.stage.model[name] for name in ("vocab_size", "context_length")}
            train_tokenizer(source.captions(), **sizes, directory=new)


def _tokenizer_of(source: str) -> epath.Path:
    """Returns the folder of the tokenizer of a workdir or a packaged stage."""
    folder = epath.Path(source)
    packaged = current(folder.parent, folder.name, CONFIG).exists() and not is_workdir(folder)
    tokenizer = read_stage(folder).tokenizer if packaged else folder / TOKENIZER
    if tokenizer is None or not tokenizer.exists():
        raise ValueError(f"config.training.init_from {source!r} has no tokenizer. Use a folder that has one.")
    return tokenizer
