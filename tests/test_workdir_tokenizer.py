"""The tokenizer of a workdir is complete or missing, whenever the run that writes it is killed."""

import types

import pytest

from tests.cascades.tiny import CAPTIONS, CONFIGS, CONTEXT, VOCAB
from tests.killed import Killed, killed_after
from unclip_jax.experiment.spec import parse
from unclip_jax.experiment.tokenizer import own_tokenizer
from unclip_jax.tokenizers.clip_bpe import add_known_words, train_tokenizer

SOURCE = types.SimpleNamespace(captions=lambda: CAPTIONS)


def make(workdir, init_from=None):
    training = {"init_from": "" if init_from is None else str(init_from)}
    task = {"kind": "clip", "stage": "clip"}
    config = parse({"task": task, "model": CONFIGS["clip"]["model"], "data": {"captions": True}, "training": training})
    return own_tokenizer(config, SOURCE, workdir)


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """The tokenizer that a run from scratch trains, and a workdir of another with one unknown word more."""
    other = tmp_path_factory.mktemp("other")
    for directory in (other / "expected", other / "run" / "tokenizer"):
        train_tokenizer(CAPTIONS, vocab_size=VOCAB, context_length=CONTEXT, directory=directory)
    add_known_words(other / "run" / "tokenizer", ["unicorn"])
    return other


@pytest.mark.parametrize("begun", [False, True], ids=["trained", "copied"])
def test_tokenizer_killed_at_any_operation_is_complete_or_made_again(expected, tmp_path, begun):
    wanted = files(expected / "run" / "tokenizer") if begun else files(expected / "expected")
    for operations in range(100):
        workdir = tmp_path / str(operations)
        try:
            with killed_after(operations):
                make(workdir, expected / "run" if begun else None)
        except Killed:
            assert not (workdir / "tokenizer").exists() or files(workdir / "tokenizer") == wanted
            make(workdir, expected / "run" if begun else None)
            assert files(workdir / "tokenizer") == wanted
            assert [path.name for path in workdir.iterdir()] == ["tokenizer"]
        else:
            assert operations > 4
            return


def test_half_written_tokenizer_of_an_earlier_version_is_made_again_and_other_files_are_not_deleted(expected, tmp_path):
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "words.json").write_text("[")
    make(tmp_path)
    assert files(tmp_path / "tokenizer") == files(expected / "expected")
    (tmp_path / "tokenizer" / "vocab.json").unlink()
    (tmp_path / "tokenizer" / "cat.png").write_text("mine")
    with pytest.raises(ValueError, match="tokenizer' exists already and is not replaced"):
        make(tmp_path)
    assert (tmp_path / "tokenizer" / "cat.png").exists()
