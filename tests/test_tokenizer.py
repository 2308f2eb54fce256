"""CLIP's tokenizer, compared with ids worked out by hand and with transformers' CLIPTokenizer."""

import json
import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest

from unclip_jax.tokenizers.clip_bpe import Tokenizer, split_words, train_tokenizer
from unclip_jax.tokenizers.files import FILES, copy_tokenizer

CAPTIONS = [
    "a small red circle on a blue background",
    "a large green star to the left of a yellow ring.",
    "there is an orange cross, and a purple square",
]
PROMPTS = [
    "",
    "a small red circle on a blue background",
    "A  Small\tRED\ncircle",
    "a purple square!",
    "wow ! ! stars!!! (really)",
    "don't draw 123 zebras; it's the cat's",
    "café CAFE\u0301 naïve 中文 🎨 Ünïcode",
    "an <|endoftext|> within <|startoftext|> a text",
    "_under_scores_ and \u00a0 odd \u2003 spaces",
    "a red circle " * 30,
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(CAPTIONS, vocab_size=640, context_length=16, directory=folder)
    return folder


@pytest.fixture(scope="module")
def tokenizer(folder):
    return Tokenizer.load(folder)


def test_encode_matches_ids_worked_out_by_hand(tmp_path):
    # "ab" occurs three times and "ac" twice, so the merges are a+b</w> and a+c</w>. "d" is the 68th printable byte.
    train_tokenizer(["ab ac", "ab ac ab"], vocab_size=520, context_length=8, directory=tmp_path)
    tokenizer = Tokenizer.load(tmp_path)
    assert (tmp_path / "merges.txt").read_text().splitlines() == ["#version: 0.2", "a b</w>", "a c</w>"]
    d_at_the_end = 256 + ord("d") - ord("!")
    expected = [[518, 513, 512, d_at_the_end, 519, 0, 0, 0], [518, 519, 0, 0, 0, 0, 0, 0]]
    rows = tokenizer.encode(["ac AB d", ""])
    assert rows.dtype == np.int32
    np.testing.assert_array_equal(rows, expected)
    assert (tokenizer.vocab_size, tokenizer.context_length, tokenizer.eot, tokenizer.pad) == (520, 8, 519, 0)


def test_vocabulary_has_clip_layout(folder, tokenizer):
    vocab = json.loads((folder / "vocab.json").read_text())
    assert len(vocab) == 640
    assert sorted(vocab.values()) == list(range(640))
    assert (vocab["!"], vocab["~"], vocab["¡"], vocab["!</w>"]) == (0, 93, 94, 256)
    assert (vocab["<|startoftext|>"], vocab["<|endoftext|>"]) == (638, 639)
    rows = tokenizer.encode(PROMPTS, on_truncate=lambda message: None)
    np.testing.assert_array_equal(rows.argmax(1), [(row == 639).nonzero()[0][0] for row in rows])


def test_encode_matches_transformers(folder, tokenizer):
    from transformers import CLIPTokenizer

    theirs = CLIPTokenizer.from_pretrained(folder)
    assert theirs.pad_token == "!"
    assert theirs.model_max_length == 16
    rows = theirs(PROMPTS, padding="max_length", truncation=True, max_length=16)["input_ids"]
    ours = tokenizer.encode(PROMPTS, on_truncate=lambda message: None)
    for prompt, our_row, their_row in zip(PROMPTS, ours, rows, strict=True):
        assert our_row.tolist() == their_row, prompt


def test_folder_saved_by_transformers_gives_the_same_ids(folder, tokenizer, tmp_path):
    from transformers import CLIPTokenizer

    CLIPTokenizer.from_pretrained(folder).save_pretrained(tmp_path)
    saved = Tokenizer.load(tmp_path)
    assert (saved.context_length, saved.pad, saved.eot) == (16, 0, 639)
    silent = {"on_truncate": lambda message: None}
    np.testing.assert_array_equal(saved.encode(PROMPTS, **silent), tokenizer.encode(PROMPTS, **silent))
    # transformers 4 writes a merge as one string with a space instead of a pair.
    whole = json.loads((tmp_path / "tokenizer.json").read_text())
    whole["model"]["merges"] = [" ".join(merge) for merge in whole["model"]["merges"]]
    older = tmp_path / "older"
    older.mkdir()
    (older / "tokenizer.json").write_text(json.dumps(whole))
    (older / "tokenizer_config.json").write_bytes((folder / "tokenizer_config.json").read_bytes())
    np.testing.assert_array_equal(Tokenizer.load(older).encode(PROMPTS, **silent), tokenizer.encode(PROMPTS, **silent))


def test_copy_tokenizer_copies_only_tokenizer_files(folder, tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir(), target.mkdir()
    for name in [*FILES, "words.json", "model.safetensors"]:
        (source / name).write_text(name)
    copy_tokenizer(source, target)
    assert sorted(path.name for path in target.iterdir()) == sorted([*FILES, "words.json"])
    with pytest.raises(ValueError, match="missing' must contain vocab.json, .*, got none of them"):
        copy_tokenizer(tmp_path / "missing", target)


def test_training_is_deterministic_across_processes(tmp_path):
    # Every word occurs once, so every merge is a tie. Other processes have different hash seeds.
    words = [f"{a}{b}{c}" for a in "bdfgk" for b in "aeiou" for c in "lmnrst"]
    script = (
        "import sys; from unclip_jax.tokenizers.clip_bpe import train_tokenizer;"
        "train_tokenizer(sys.argv[2:], vocab_size=600, context_length=8, directory=sys.argv[1])"
    )
    for name in ("first", "second"):
        subprocess.run([sys.executable, "-c", script, tmp_path / name, *words], check=True)
    train_tokenizer(words, vocab_size=600, context_length=8, directory=tmp_path / "third")
    for name in (*FILES, "words.json"):
        texts = {(tmp_path / run / name).read_bytes() for run in ("first", "second", "third")}
        assert len(texts) == 1, name


def test_long_caption_is_truncated_with_a_warning(tokenizer):
    text = "a small red circle on a blue background " * 3
    kept = ("a small red circle on a blue background " * 2)[: -len(" blue background ")]  # 14 words, one token each
    message = rf"of 24 tokens is truncated to 14: it ends at character {len(kept)}, after"
    with pytest.warns(UserWarning, match=message) as caught:
        row = tokenizer.encode([text])[0]
    assert repr("..." + kept[-40:]) in str(caught[0].message)
    assert row[-1] == tokenizer.eot
    np.testing.assert_array_equal(row, tokenizer.encode([kept])[0])


def test_truncation_position_counts_characters_of_the_original_text(tokenizer):
    text = "É É   " + "red " * 20  # É is two tokens; spaces are not tokens
    messages = []
    tokenizer.encode([text], on_truncate=messages.append)
    kept = "É É   " + " ".join(["red"] * 10)
    assert len(messages) == 1
    assert f"it ends at character {len(kept)}, after {'...' + kept[-40:]!r}" in messages[0]


def test_caption_of_maximum_length_is_not_truncated(tokenizer):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        row = tokenizer.encode(["red " * 14])[0]
    assert (row == row[1]).sum() == 14
    assert row[-1] == tokenizer.eot


def test_unknown_words_are_words_missing_from_training_captions(tokenizer):
    assert tokenizer.unknown_words("A RED zebra, on a blue (zebra) sofa!") == ["zebra", "sofa"]
    assert tokenizer.unknown_words("the ring.") == []
    assert "background" in tokenizer.known_words
    assert split_words("It's red-hot, 2 _stars_") == ["it", "s", "red", "hot", "2", "stars"]


def test_unknown_words_is_empty_without_words_file(folder, tmp_path):
    for name in FILES:
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer.known_words is None
    assert tokenizer.unknown_words("zebra") == []


def test_tokenizer_can_be_pickled(tokenizer):
    copy = pickle.loads(pickle.dumps(tokenizer))
    np.testing.assert_array_equal(copy.encode(CAPTIONS), tokenizer.encode(CAPTIONS))


def test_invalid_folder_error_is_one_line(folder, tmp_path):
    with pytest.raises(ValueError, match="must contain .*. Missing: vocab.json, merges.txt, tokenizer_config.json."):
        Tokenizer.load(tmp_path / "nothing")
    vocab = json.loads((folder / "vocab.json").read_text())
    swapped = json.dumps(vocab | {"!": 639, "<|endoftext|>": 0})
    for name, content, message in (
        ("vocab.json", "{", "cannot be read: JSONDecodeError"),
        ("vocab.json", '{"a": 0}', "cannot be read: .*out of vocabulary"),
        ("vocab.json", swapped, "ids of .* must be consecutive from 0, with .* last"),
        ("tokenizer_config.json", "{}", "cannot be read: KeyError: 'model_max_length'"),
        ("tokenizer_config.json", '{"model_max_length": 9, "pad_token": "nix"}', "must be in vocab.json, got 'nix'"),
        ("merges.txt", "#version: 0.2\nq zz", "cannot be read: "),
    ):
        for other in FILES:
            (tmp_path / other).write_bytes((folder / other).read_bytes())
        (tmp_path / name).write_text(content)
        with pytest.raises(ValueError, match=message) as error:
            Tokenizer.load(tmp_path)
        assert "\n" not in str(error.value)


def test_invalid_arguments_are_rejected(tokenizer, tmp_path):
    with pytest.raises(ValueError, match="vocab_size must be at least 514, got 500"):
        train_tokenizer(CAPTIONS, vocab_size=500, context_length=16, directory=tmp_path)
    with pytest.raises(ValueError, match="context_length must be at least 3 .*, got 2"):
        train_tokenizer(CAPTIONS, vocab_size=600, context_length=2, directory=tmp_path)
    with pytest.raises(ValueError, match="texts must be a list of strings"):
        tokenizer.encode("a red circle")
