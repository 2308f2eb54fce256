"""Files of GLIDE and guided-diffusion, compared with images of the original code."""

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
    """Writes the published files with random weights."""
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
def golden_noise(monkeypatch):
    """Makes all stages use the noise of the golden images."""
    stages = {stage: ((side, side, 3), 10) for stage, side in (("base", 64), ("upsample", 256))}
    monkeypatch.setattr(diffusion, "row_noise", row_noise_of(2, stages))


def check_images(images, expected):
    assert np.max(np.abs(images / 127.5 - 1 - expected)) <= 2 / 255


def upsample_golden(cascade, conditions, golden, about):
    """Upsamples the small golden images, so that rounding errors of the base do not matter."""
    conditions = conditions.replace(low_res=golden["small"])
    large = sample_one(cascade, UPSAMPLER, conditions, rows=2, steps=about["large_steps"])
    return (large[:, ::4, ::4].clip(-1, 1) + 1) * 127.5


def test_glide_matches_images_of_original_code(glide, golden_noise):
    golden, about = load("glide-samples")
    cascade = open_on_one_device(glide)
    small = unclip_jax.text_to_image(
        cascade, about["prompts"], decoder_scale=about["scale"], steps={"base": about["steps"]}, stop_after="base"
    )
    check_images(small, golden["small"])
    assert np.mean(np.abs(golden["small"]) < 251 / 255) > 0.5
    upsampler = cascade.stages[UPSAMPLER]
    captions = kind_of(upsampler).encode_text(upsampler, about["prompts"])
    check_images(upsample_golden(cascade, captions, golden, about), golden["large"])


def test_guided_diffusion_matches_images_of_original_code(adm, golden_noise):
    golden, about = load("guided-diffusion-samples")
    cascade = open_on_one_device(adm)
    steps = {"base": about["steps"]}
    check_images(unclip_jax.class_to_image(cascade, about["labels"], steps=steps, stop_after="base"), golden["small"])
    conditions = Conditions(labels=np.array(about["labels"], np.int32))
    check_images(upsample_golden(cascade, conditions, golden, about), golden["large"])
    for name in ("small", "large"):
        assert np.mean(np.abs(golden[name]) < 251 / 255) > 0.5


def test_gpt2_tokenizer_matches_glide(tmp_path):
    golden, about = load("glide-tokens")
    tokenizer = GPT2Tokenizer.load(gpt2_tokenizer(tmp_path), context_length=golden["tokens"].shape[1])
    warnings = []
    tokens, mask = tokenizer.encode(about["texts"], on_truncate=warnings.append)
    np.testing.assert_array_equal(tokens, golden["tokens"])
    np.testing.assert_array_equal(mask, golden["mask"])
    assert [line.split(",")[0] for line in warnings] == [
        "a caption of 24 tokens is truncated to 20: it ends at character 13",
        "a caption of 70 tokens is truncated to 20: it ends at character 20",
    ]
    with pytest.raises(ValueError, match="texts must be a list of strings, got the string 'a ring'"):
        tokenizer.encode("a ring")


def test_stages_have_sampling_settings_of_original_code(glide, adm):
    def settings_of(stage):
        return {**stage.spec.sampling.chosen(), "guidance_scale": stage.spec.sampling.guidance_scale}

    settings = {
        name: {stage.name: settings_of(stage) for stage in open_on_one_device(folder).stages.values()}
        for name, folder in (("glide", glide), ("adm", adm))
    }
    assert settings["glide"] == {
        "base": {"sampler": "ddpm", "steps": 100, "guidance_scale": 3.0},
        UPSAMPLER: {"sampler": "ddim", "steps": "fast27", "guidance_scale": 1.0, "temperature": 0.997},
    }
    assert settings["adm"] == {
        "base": {"sampler": "ddpm", "steps": 250, "guidance_scale": 1.0},
        UPSAMPLER: {"sampler": "ddpm", "steps": 250, "guidance_scale": 1.0},
    }


@pytest.mark.slow
def test_imported_cascade_generates_identical_images(glide, adm, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for source, condition in ((glide, ["a red circle"]), (adm, ["--class", "3"])):
        name = source.name
        assert main(["import-weights", str(source), "--out", f"{name}-imported"]) == 0
        for cascade, out in ((str(source), "direct.png"), (f"{name}-imported", "imported.png")):
            steps = f"base=2,{UPSAMPLER}=1"
            assert main(["generate", *condition, "--cascade", cascade, "--steps", steps, "--out", out]) == 0
        assert (tmp_path / "direct.png").stat().st_size > 10_000
        direct, imported = (unclip_jax.images.read_image(tmp_path / name) for name in ("direct.png", "imported.png"))
        np.testing.assert_array_equal(direct, imported)
    for stage in ("base", UPSAMPLER):
        assert (tmp_path / f"{glide.name}-imported" / stage / "tokenizer" / "vocab.json").exists()
    assert not [*(tmp_path / f"{adm.name}-imported").rglob("tokenizer")]


def test_single_file_is_opened(glide, adm, tmp_path):
    base = open_on_one_device(glide / "base.pt")
    assert list(base.stages) == ["base"]
    assert unclip_jax.text_to_image(base, ["a"], steps={"base": 1}).shape == (1, 64, 64, 3)
    with pytest.raises(ValueError, match=r"upsample.pt' has no stage that generates images from .*: upsampler_64"):
        unclip_jax.text_to_image(open_on_one_device(glide / "upsample.pt"), ["a"])
    shutil.copy(adm / "64x64_diffusion.pt", tmp_path / "mine.pt")
    with pytest.raises(ValueError, match=r"mine.pt' contains a network of guided-diffusion. .* 64x64_diffusion.pt"):
        open_on_one_device(tmp_path / "mine.pt")


def test_images_depend_on_class_caption_and_seed(glide, adm):
    steps = {"base": 2}
    adm_base, glide_base = open_on_one_device(adm / "64x64_diffusion.pt"), open_on_one_device(glide / "base.pt")
    classes = unclip_jax.class_to_image(adm_base, [1, 2], count=2, steps=steps)
    assert classes.shape == (4, 64, 64, 3)
    np.testing.assert_array_equal(classes[3:], unclip_jax.class_to_image(adm_base, [2], first_image=3, steps=steps))
    prompts = [
        unclip_jax.text_to_image(glide_base, [prompt], seed=seed, steps=steps)
        for prompt, seed in (("a", 0), ("b", 0), ("a", 1))
    ]
    for one, other in ((classes[0], classes[1]), (prompts[0], prompts[1]), (prompts[0], prompts[2])):
        assert np.mean(np.abs(to_unit(one) - to_unit(other)) > 10 / 255) > 0.05


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        (lambda glide, adm: unclip_jax.class_to_image(adm, [5]), "labels of base of .* must be from 0 to 4, got 5"),
        (lambda glide, adm: unclip_jax.class_to_image(adm), "labels must be given, because base of .* 0 to 4"),
        (lambda glide, adm: unclip_jax.class_to_image(adm, []), "labels must contain at least one"),
        (lambda glide, adm: unclip_jax.class_to_image(adm, [1], count=0), "count must be at least 1, got 0"),
        (lambda glide, adm: unclip_jax.class_to_image(adm, [1], decoder_scale=2), "scale of base must be 1, got 2"),
        (lambda glide, adm: unclip_jax.class_to_image(adm, [1], prior_scale=2), "prior_scale must be None, .*, got 2"),
        (lambda glide, adm: unclip_jax.class_to_image(glide, [1]), "is text-conditional. Pass prompts instead"),
        (lambda glide, adm: unclip_jax.text_to_image(adm, ["a"]), "is not text-conditional. Use class_to_image"),
        (lambda glide, adm: unclip_jax.text_to_image(glide, ["a"], candidates=2), "candidates must be None, .*, got 2"),
        (lambda glide, adm: unclip_jax.text_to_image(glide, ["a"], empty_caption=True), "on captions only"),
    ],
)
def test_invalid_argument_is_reported_in_one_line(glide, adm, sample, message):
    with pytest.raises(ValueError, match=message) as error:
        sample(open_on_one_device(glide / "base.pt"), open_on_one_device(adm / "64x64_diffusion.pt"))
    assert "\n" not in str(error.value)


def test_invalid_folder_and_tokenizer_are_rejected(glide, adm, tmp_path):
    with pytest.raises(ValueError, match=r"uses no tokenizer. Omit"):
        open_on_one_device(adm, tokenizer=glide)
    with pytest.raises(ValueError, match=r"includes no tokenizer. .*--tokenizer openai-community/gpt2"):
        open_on_one_device(shutil.copy(glide / "base.pt", tmp_path / "base.pt"))
    (tmp_path / "two").mkdir()
    for name in ("64x64_diffusion.pt", "256x256_diffusion.pt"):
        shutil.copy(adm / "64x64_diffusion.pt", tmp_path / "two" / name)
    with pytest.raises(ValueError, match=r"got 64x64_diffusion.pt, 256x256_diffusion.pt. Pass a single file"):
        open_on_one_device(tmp_path / "two")
    (tmp_path / "vocabulary").mkdir()
    (tmp_path / "vocabulary" / "vocab.json").write_text('{"a": 0, "<|endoftext|>": 1}')
    (tmp_path / "vocabulary" / "merges.txt").write_text("#version: 0.2\n")
    with pytest.raises(ValueError, match=r"tokenizer of base of .* must have vocab_size 265, got 2 in"):
        open_on_one_device(glide, tokenizer=tmp_path / "vocabulary")


def test_tokenizer_of_another_type_is_rejected(glide, tmp_path):
    letters_tokenizer(tmp_path / "letters", vocab_size=64, context_length=12)
    with pytest.raises(ValueError, match="tokenizer of base of .* must be a GPT2Tokenizer, got a Tokenizer"):
        open_on_one_device(glide, tokenizer=tmp_path / "letters")


def test_upsample_rejects_conditional_upsamplers(glide, adm):
    small = np.zeros((1, 64, 64, 3), np.float32)
    for folder in (glide, adm):
        with pytest.raises(ValueError, match=r"size must be .*, got 256. Available: \[\]"):
            upsample(open_on_one_device(folder), small, size=256)


def test_export_without_clip_is_reported_in_one_line(glide, tmp_path, capsys):
    out = str(tmp_path / "out")
    assert main(["import-weights", str(glide / "base.pt"), "--out", str(tmp_path / "base")]) == 0
    assert main(["export-weights", str(tmp_path / "base"), "--format", "diffusers", "--out", out]) == 2
    assert "has no clip, diffusion_prior, decoder, upsampler. UnCLIPPipeline requires one of each" in (
        capsys.readouterr().err
    )


def test_invalid_count_is_reported(adm):
    with pytest.raises(ValueError, match="^count must be at least 1, got -1.$"):
        unclip_jax.class_to_image(open_on_one_device(adm / "64x64_diffusion.pt"), [1], count=-1)
