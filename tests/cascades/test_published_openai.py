"""GLIDE's and guided-diffusion's files draw what the repositories' own code draws with the same noise."""

import shutil

import numpy as np
import pytest

import unclip_jax
from tests.cascades.one_stage import sample_one
from tests.cascades.published import load, open_on_one_device, row_noise_of
from tests.golden.drawn import drawn, gpt2_tokenizer, letters_tokenizer
from tests.pretrained import torch_writer
from unclip_jax.__main__ import main
from unclip_jax.cascades.text_to_image import upsample
from unclip_jax.images import to_unit
from unclip_jax.kinds import kind_of
from unclip_jax.sampling import diffusion
from unclip_jax.stages.conditions import Conditions
from unclip_jax.tokenizers.gpt2_bpe import GPT2Tokenizer

UPSAMPLER = "upsampler_64_to_256"


def write_files(folder, about):
    """The published files, with drawn weights."""
    files = {}
    for name, shape in about["shapes"].items():
        file, _, tensor = name.partition(".")
        files.setdefault(file, {})[tensor] = drawn(name, tuple(shape))
    for file, arrays in files.items():
        (folder / f"{file}.pt").write_bytes(torch_writer.zipped(torch_writer.tensors(arrays)))
    return folder


@pytest.fixture(scope="module")
def glide(tmp_path_factory):
    folder = write_files(tmp_path_factory.mktemp("glide"), load("glide-samples")[1])
    gpt2_tokenizer(folder)
    return folder


@pytest.fixture(scope="module")
def adm(tmp_path_factory):
    return write_files(tmp_path_factory.mktemp("adm"), load("guided-diffusion-samples")[1])


@pytest.fixture
def peers_noise(monkeypatch):
    """Has every stage take its noise from `drawn.noise`, as the peer did."""
    stages = {stage: ((side, side, 3), 10) for stage, side in (("base", 64), ("upsample", 256))}
    monkeypatch.setattr(diffusion, "row_noise", row_noise_of(2, stages))


def check(pictures, right):
    assert np.max(np.abs(pictures / 127.5 - 1 - right)) <= 2 / 255


def enlarged(cascade, conditions, golden, about):
    """The large pictures, from the peer's small ones: so rounding in these does not count twice."""
    conditions = conditions.replace(low_res=golden["small"])
    large = sample_one(cascade, UPSAMPLER, conditions, rows=2, steps=about["large_steps"])
    return (large[:, ::4, ::4].clip(-1, 1) + 1) * 127.5


def test_glide_draws_the_pictures_of_its_origin(glide, peers_noise):
    golden, about = load("glide-samples")
    cascade = open_on_one_device(glide)
    small = unclip_jax.text_to_image(
        cascade, about["prompts"], decoder_scale=about["scale"], steps={"base": about["steps"]}, stop_after="base"
    )
    check(small, golden["small"])
    assert np.mean(np.abs(golden["small"]) < 251 / 255) > 0.5
    upsampler = cascade.stages[UPSAMPLER]
    captions = kind_of(upsampler).encode_text(upsampler, about["prompts"])
    check(enlarged(cascade, captions, golden, about), golden["large"])


def test_guided_diffusion_draws_the_pictures_of_its_origin(adm, peers_noise):
    golden, about = load("guided-diffusion-samples")
    cascade = open_on_one_device(adm)
    steps = {"base": about["steps"]}
    check(unclip_jax.class_to_image(cascade, about["labels"], steps=steps, stop_after="base"), golden["small"])
    check(enlarged(cascade, Conditions(labels=np.array(about["labels"], np.int32)), golden, about), golden["large"])
    for name in ("small", "large"):
        assert np.mean(np.abs(golden[name]) < 251 / 255) > 0.5


def test_tokens_are_those_of_glides_tokenizer(tmp_path):
    golden, about = load("glide-tokens")
    tokenizer = GPT2Tokenizer.load(gpt2_tokenizer(tmp_path), context_length=golden["tokens"].shape[1])
    cut = []
    tokens, mask = tokenizer.encode(about["texts"], on_truncate=cut.append)
    np.testing.assert_array_equal(tokens, golden["tokens"])
    np.testing.assert_array_equal(mask, golden["mask"])
    assert [line.split(",")[0] for line in cut] == [
        "a caption of 24 tokens is cut to 20: what follows character 13",
        "a caption of 70 tokens is cut to 20: what follows character 20",
    ]


def test_each_is_sampled_as_its_origin_does(glide, adm):
    def told_of(stage):
        return {**stage.spec.sampling.chosen(), "guidance_scale": stage.spec.sampling.guidance_scale}

    told = {
        name: {stage.name: told_of(stage) for stage in open_on_one_device(folder).stages.values()}
        for name, folder in (("glide", glide), ("adm", adm))
    }
    assert told["glide"] == {
        "base": {"sampler": "ddpm", "steps": 100, "guidance_scale": 3.0},
        UPSAMPLER: {"sampler": "ddim", "steps": "fast27", "guidance_scale": 1.0, "temperature": 0.997},
    }
    assert told["adm"] == {
        "base": {"sampler": "ddpm", "steps": 250, "guidance_scale": 1.0},
        UPSAMPLER: {"sampler": "ddpm", "steps": 250, "guidance_scale": 1.0},
    }


@pytest.mark.slow
def test_imported_folders_draw_the_same(glide, adm, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for source, asked in ((glide, ["a red circle"]), (adm, ["--class", "3"])):
        name = source.name
        assert main(["import-weights", str(source), "--out", f"{name}-imported"]) == 0
        for cascade, out in ((str(source), "own.png"), (f"{name}-imported", "imported.png")):
            drawn_by = ["generate", *asked, "--cascade", cascade, "--steps", f"base=2,{UPSAMPLER}=1", "--out", out]
            assert main(drawn_by) == 0
        assert (tmp_path / "own.png").stat().st_size > 10_000
        own, imported = (unclip_jax.images.read_image(tmp_path / name) for name in ("own.png", "imported.png"))
        np.testing.assert_array_equal(own, imported)
    for stage in ("base", UPSAMPLER):
        assert (tmp_path / f"{glide.name}-imported" / stage / "tokenizer" / "vocab.json").exists()
    assert not [*(tmp_path / f"{adm.name}-imported").rglob("tokenizer")]


def test_one_file_alone_is_opened(glide, adm, tmp_path):
    base = open_on_one_device(glide / "base.pt")
    assert list(base.stages) == ["base"]
    assert unclip_jax.text_to_image(base, ["a"], steps={"base": 1}).shape == (1, 64, 64, 3)
    with pytest.raises(ValueError, match=r"upsample.pt' has no stage that begins a picture; it has: upsampler_64"):
        unclip_jax.text_to_image(open_on_one_device(glide / "upsample.pt"), ["a"])
    shutil.copy(adm / "64x64_diffusion.pt", tmp_path / "mine.pt")
    with pytest.raises(ValueError, match=r"mine.pt' contains a network of guided-diffusion, .* 64x64_diffusion.pt"):
        open_on_one_device(tmp_path / "mine.pt")


def test_another_class_seed_caption_or_low_resolution_is_another_picture(glide, adm):
    steps = {"base": 2}
    of_class, of_prompt = open_on_one_device(adm / "64x64_diffusion.pt"), open_on_one_device(glide / "base.pt")
    classes = unclip_jax.class_to_image(of_class, [1, 2], count=2, steps=steps)
    assert classes.shape == (4, 64, 64, 3)
    np.testing.assert_array_equal(classes[3:], unclip_jax.class_to_image(of_class, [2], first_image=3, steps=steps))
    prompts = [
        unclip_jax.text_to_image(of_prompt, [prompt], seed=seed, steps=steps)
        for prompt, seed in (("a", 0), ("b", 0), ("a", 1))
    ]
    for one, other in ((classes[0], classes[1]), (prompts[0], prompts[1]), (prompts[0], prompts[2])):
        assert np.mean(np.abs(to_unit(one) - to_unit(other)) > 10 / 255) > 0.05


@pytest.mark.parametrize(
    ("draw", "said"),
    [
        (lambda glide, adm: unclip_jax.class_to_image(adm, [5]), "class 5 is unknown; base of .* has 0 to 4"),
        (lambda glide, adm: unclip_jax.class_to_image(adm), "no class is given; base of .* knows those from 0 to 4"),
        (lambda glide, adm: unclip_jax.class_to_image(adm, []), "labels is empty"),
        (lambda glide, adm: unclip_jax.class_to_image(adm, [1], count=0), "count is 0"),
        (lambda glide, adm: unclip_jax.class_to_image(adm, [1], decoder_scale=2), "scale of base is 2; it must be 1"),
        (lambda glide, adm: unclip_jax.class_to_image(adm, [1], prior_scale=2), "prior_scale is 2, and .* no prior"),
        (lambda glide, adm: unclip_jax.class_to_image(glide, [1]), "draws what a prompt says; give it prompts"),
        (lambda glide, adm: unclip_jax.text_to_image(adm, ["a"]), "reads no prompts; give it labels: --class N"),
        (lambda glide, adm: unclip_jax.text_to_image(glide, ["a"], candidates=2), "candidates is 2, and .* no prior"),
        (lambda glide, adm: unclip_jax.text_to_image(glide, ["a"], empty_caption=True), "knows captions alone"),
    ],
)
def test_what_does_not_fit_is_one_line(glide, adm, draw, said):
    with pytest.raises(ValueError, match=said) as error:
        draw(open_on_one_device(glide / "base.pt"), open_on_one_device(adm / "64x64_diffusion.pt"))
    assert "\n" not in str(error.value)


def test_folders_and_arguments_that_do_not_fit_are_refused(glide, adm, tmp_path):
    with pytest.raises(ValueError, match=r"reads no captions. Omit"):
        open_on_one_device(adm, tokenizer=glide)
    with pytest.raises(ValueError, match=r"includes no tokenizer. .*--tokenizer openai-community/gpt2"):
        open_on_one_device(shutil.copy(glide / "base.pt", tmp_path / "base.pt"))
    (tmp_path / "two").mkdir()
    for name in ("64x64_diffusion.pt", "256x256_diffusion.pt"):
        shutil.copy(adm / "64x64_diffusion.pt", tmp_path / "two" / name)
    with pytest.raises(ValueError, match=r"got 64x64_diffusion.pt, 256x256_diffusion.pt. Pass a file"):
        open_on_one_device(tmp_path / "two")
    (tmp_path / "vocabulary").mkdir()
    (tmp_path / "vocabulary" / "vocab.json").write_text('{"a": 0, "<|endoftext|>": 1}')
    (tmp_path / "vocabulary" / "merges.txt").write_text("#version: 0.2\n")
    with pytest.raises(ValueError, match=r"has vocab_size 2, and base of .* has 265; give the one that it was trained"):
        open_on_one_device(glide, tokenizer=tmp_path / "vocabulary")


def test_tokenizer_of_another_sort_is_refused_by_its_vocabulary(glide, tmp_path):
    letters_tokenizer(tmp_path / "letters", vocab_size=64, context_length=12)
    with pytest.raises(ValueError, match="is a Tokenizer, and base of .* reads the tokens of a GPT2Tokenizer;"):
        open_on_one_device(glide, tokenizer=tmp_path / "letters")


def test_upsample_takes_only_what_needs_no_caption_or_class(glide, adm):
    small = np.zeros((1, 64, 64, 3), np.float32)
    for folder in (glide, adm):
        with pytest.raises(ValueError, match=r"size 256 is made by no upsampler of the cascade; known: \[\]"):
            upsample(open_on_one_device(folder), small, size=256)


def test_export_without_a_clip_is_one_line(glide, tmp_path, capsys):
    out = str(tmp_path / "out")
    assert main(["import-weights", str(glide / "base.pt"), "--out", str(tmp_path / "base")]) == 0
    assert main(["export-weights", str(tmp_path / "base"), "--format", "diffusers", "--out", out]) == 2
    assert "has no clip, diffusion_prior, decoder, upsampler. UnCLIPPipeline requires one of each" in (
        capsys.readouterr().err
    )


def test_wrong_count_is_said_before_labels_are_repeated(adm):
    with pytest.raises(ValueError, match="^count is -1; it must be 1 or more$"):
        unclip_jax.class_to_image(open_on_one_device(adm / "64x64_diffusion.pt"), [1], count=-1)
