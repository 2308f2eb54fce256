"""Export of cascades: tensors and configurations are equal to those that diffusers and transformers write."""

import json
import shutil

import jax
import numpy as np
import pytest
from safetensors import numpy as safetensors_numpy

import unclip_jax
from tests.cascades.published import load, write_pipeline
from tests.golden.drawn import drawn
from unclip_jax import parameters
from unclip_jax.__main__ import main
from unclip_jax.cascades.embedding import load_clip
from unclip_jax.cascades.folder_writing import StageFiles, write_stages
from unclip_jax.stages.spec import from_json

# Settings that have no effect on the networks.
VERSIONS = {"_diffusers_version", "transformers_version"}


def read(path):
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def karlo(tmp_path_factory):
    """Imports a folder of diffusers' pipeline and exports it again. Returns the exported folder and the description."""
    folder, about = tmp_path_factory.mktemp("karlo"), load("karlo-pipeline")[1]
    (folder / "theirs").mkdir()
    write_pipeline(folder / "theirs", about)
    theirs, cascade, ours = (str(folder / name) for name in ("theirs", "cascade", "ours"))
    assert main(["import-weights", theirs, "--out", cascade]) == 0
    assert main(["export-weights", cascade, "--format", "diffusers", "--out", ours]) == 0
    return folder / "ours", about


def test_exported_tensors_are_identical(karlo):
    folder, about = karlo
    tensors = {
        f"{path.parent.name}.{name}": array
        for path in folder.glob("*/*.safetensors")
        for name, array in safetensors_numpy.load_file(path).items()
    }
    assert tensors.keys() == about["shapes"].keys()
    for name, shape in about["shapes"].items():
        assert tensors[name].dtype == np.float32
        np.testing.assert_array_equal(tensors[name], drawn(name, tuple(shape)), err_msg=name)


def test_exported_configs_are_those_of_diffusers(karlo):
    folder, about = karlo
    for part, expected in about["configs"].items():
        config = read(folder / part / ("scheduler_config.json" if part.endswith("scheduler") else "config.json"))
        # diffusers also writes defaults, and a head width that has no effect on networks without attention.
        written = {key: value for key, value in config.items() if key not in VERSIONS | {"architectures"}}
        if part.startswith("super_res") and not part.endswith("scheduler"):
            for blocks in ("down_block_types", "up_block_types"):
                assert not any("Attn" in block for block in expected[blocks])
            written.pop("attention_head_dim")
        assert written == {key: expected[key] for key in written}, part
    index = read(folder / "model_index.json")
    assert index["_class_name"] == "UnCLIPPipeline"
    assert index["text_proj"] == ["diffusers.pipelines.deprecated.unclip.text_proj", "UnCLIPTextProjModel"]
    parts = {key for key in index if not key.startswith("_")}
    assert parts == {path.name for path in folder.iterdir() if path.is_dir()} == about["configs"].keys() | {"tokenizer"}
    assert (folder / "tokenizer" / "vocab.json").exists()


def test_import_of_exported_cascade_restores_parameters(folder, cascade, tmp_path, capsys):
    shutil.copytree(folder, tmp_path / "cascade")
    out = tmp_path / "out"
    assert main(["export-weights", str(tmp_path / "cascade"), "--format", "diffusers", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "diffusion_prior: candidates 2 not supported" in printed
    assert "upsampler: sampler 'ddim' not supported" in printed
    assert f"UnCLIPPipeline.from_pretrained({str(out)!r})" in printed
    assert (
        "pipeline(prompt, prior_num_inference_steps=5, decoder_num_inference_steps=6, super_res_num_inference_steps=3, "
        "prior_guidance_scale=2.0, decoder_guidance_scale=3.0)" in printed
    )
    imported = unclip_jax.load_cascade(out, devices=jax.local_devices()[:1])
    assert list(imported.stages) == list(cascade.stages)
    for name, stage in cascade.stages.items():
        expected = parameters.flatten(stage.params)
        if name == "clip":
            expected = {name: value for name, value in expected.items() if name.startswith("text/")}
        actual = parameters.flatten(imported.stages[name].params)
        assert actual.keys() == expected.keys()
        for parameter, value in expected.items():
            np.testing.assert_array_equal(actual[parameter], value)
        if name != "clip":
            assert imported.stages[name].spec.diffusion == stage.spec.diffusion
    for name, value in cascade.statistics.items():
        np.testing.assert_allclose(imported.statistics[name], value, rtol=1e-6)


def test_second_upsampler_is_not_exported(folder, cascade, tmp_path, capsys):
    copy, first = shutil.copytree(folder, tmp_path / "copy"), "upsampler_8_to_16"
    config = read(copy / first / "config.json")
    config["model"]["image_size"], config["low_res_size"] = 32, 16
    config["sampling"] = {"sampler": "ddpm", "steps": 9}
    second = from_json("upsampler_16_to_32", config, where=first)
    write_stages(copy, {second.name: StageFiles(second, cascade.stages[first].params)})
    out = tmp_path / "out"
    assert main(["export-weights", str(copy), "--format", "diffusers", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert (
        "upsampler_16_to_32 is not exported. The pipeline has a single upsampler, so its images are 16 px." in printed
    )
    assert "super_res_num_inference_steps=3," in printed
    assert read(out / "super_res_first/config.json")["sample_size"] == 16


def test_exported_clip_loads_in_transformers_and_is_identical(folder, cascade, tmp_path):
    import transformers

    out = tmp_path / "clip"
    assert main(["export-weights", str(folder), "--format", "clip", "--out", str(out)]) == 0
    config = transformers.CLIPConfig.from_pretrained(out)
    assert config.vision_config.image_size == 16 and config.text_config.hidden_act == "quick_gelu"
    imported = load_clip(out)
    assert parameters.digest(imported.params) == parameters.digest(cascade.stages["clip"].params)
    prompts = ["a red circle"]
    np.testing.assert_array_equal(imported.tokenizer.encode(prompts), cascade.tokenizer.encode(prompts))
    assert read(out / "preprocessor_config.json")["crop_size"] == {"height": 16, "width": 16}


def changed(folder, tmp_path, stage, change):
    copy = shutil.copytree(folder, tmp_path / "copy")
    config = read(copy / stage / "config.json")
    change(config)
    (copy / stage / "config.json").write_text(json.dumps(config))
    return copy


@pytest.mark.parametrize(
    ("stage", "change", "message"),
    [
        (
            "decoder",
            lambda config: config["diffusion"].update(predicts="v"),
            "predicts of decoder must be x0 or eps for diffusers' UnCLIPScheduler, got 'v'",
        ),
        (
            "decoder",
            lambda config: config["diffusion"].update(schedule="linear"),
            "schedule of decoder must be cosine for diffusers' UnCLIPScheduler, got 'linear'",
        ),
        ("upsampler_8_to_16", lambda config: config["diffusion"].update(variance="fixed_large"), "got 'fixed_large'"),
        (
            "diffusion_prior",
            lambda config: config["model"].update(activation="quick_gelu"),
            "activation of the prior must be 'gelu' for export to diffusers, got 'quick_gelu'",
        ),
        (
            "decoder",
            lambda config: config["model"].update(num_heads=4),
            "num_heads of the decoder must be None for export to diffusers, got 4",
        ),
    ],
)
def test_unsupported_stage_is_rejected_and_nothing_written(folder, tmp_path, capsys, stage, change, message):
    copy = changed(folder, tmp_path, stage, change)
    assert main(["export-weights", str(copy), "--format", "diffusers", "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy"]


def test_invalid_arguments_are_reported_in_one_line(folder, tmp_path, capsys):
    (tmp_path / "existing").mkdir()
    for argv, message in (
        ([str(folder), "--format", "onnx", "--out", "x"], "Unknown --format 'onnx'. Available: diffusers, clip"),
        ([str(folder), "--format", "clip", "--out", str(tmp_path / "existing")], "--out must be a new folder, got"),
        (["nowhere", "--format", "clip", "--out", "x"], "cascade must be a bundled cascade or a cascade folder"),
    ):
        assert main(["export-weights", *argv]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
