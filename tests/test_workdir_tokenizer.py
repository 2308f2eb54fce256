"""Tokenizer of a workdir: either complete or missing, even if the run is killed while writing it."""

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
    """A folder with the tokenizer of a new run, and a workdir whose tokenizer knows one more word."""
    other = tmp_path_factory.mktemp("other")
    for directory in (other / "expected", other / "run" / "tokenizer"):
        train_tokenizer(CAPTIONS, vocab_size=VOCAB, context_length=CONTEXT, directory=directory)
    add_known_words(other / "run" / "tokenizer", ["unicorn"])
    return other


@pytest.mark.parametrize("from_init", [False, True], ids=["trained", "copied"])
def test_tokenizer_is_complete_or_rewritten_after_kill_at_any_operation(expected, tmp_path, from_init):
    content = files(expected / "run" / "tokenizer") if from_init else files(expected / "expected")
    for operations in range(100):
        workdir = tmp_path / str(operations)
        try:
            with killed_after(operations):
                make(workdir, expected / "run" if from_init else None)
        except Killed:
            assert not (workdir / "tokenizer").exists() or files(workdir / "tokenizer") == content
            make(workdir, expected / "run" if from_init else None)
            assert files(workdir / "tokenizer") == content
            assert [path.name for path in workdir.iterdir()] == ["tokenizer"]
        else:
            assert operations > 4
            return


def test_incomplete_tokenizer_is_rewritten_unless_folder_has_other_files(expected, tmp_path):
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "words.json").write_text("[")
    make(tmp_path)
    assert files(tmp_path / "tokenizer") == files(expected / "expected")
    (tmp_path / "tokenizer" / "vocab.json").unlink()
    (tmp_path / "tokenizer" / "cat.png").write_text("mine")
    with pytest.raises(ValueError, match="tokenizer' already exists"):
        make(tmp_path)
    assert (tmp_path / "tokenizer" / "cat.png").exists()
