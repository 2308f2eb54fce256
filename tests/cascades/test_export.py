"""An exported cascade is, name by name and number by number, what the code that it is for would have written."""

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

# What the peer writes of itself and no network depends on.
ABOUT = {"_diffusers_version", "transformers_version"}


def read(path):
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def karlo(tmp_path_factory):
    """The peer's own pipeline, as a folder of theirs, imported, and exported again."""
    folder, about = tmp_path_factory.mktemp("karlo"), load("karlo-pipeline")[1]
    (folder / "theirs").mkdir()
    write_pipeline(folder / "theirs", about)
    theirs, cascade, ours = (str(folder / name) for name in ("theirs", "cascade", "ours"))
    assert main(["import-weights", theirs, "--out", cascade]) == 0
    assert main(["export-weights", cascade, "--format", "diffusers", "--out", ours]) == 0
    return folder / "ours", about


def test_every_tensor_is_back_in_its_place(karlo):
    folder, about = karlo
    found = {
        f"{path.parent.name}.{name}": array
        for path in folder.glob("*/*.safetensors")
        for name, array in safetensors_numpy.load_file(path).items()
    }
    assert found.keys() == about["shapes"].keys()
    for name, shape in about["shapes"].items():
        assert found[name].dtype == np.float32
        np.testing.assert_array_equal(found[name], drawn(name, tuple(shape)), err_msg=name)


def test_every_configuration_is_the_peers(karlo):
    folder, about = karlo
    for part, right in about["configs"].items():
        config = read(folder / part / ("scheduler_config.json" if part.endswith("scheduler") else "config.json"))
        # The peer writes defaults too, and of a network without attention a head's width that means nothing.
        written = {key: value for key, value in config.items() if key not in ABOUT | {"architectures"}}
        if part.startswith("super_res") and not part.endswith("scheduler"):
            for blocks in ("down_block_types", "up_block_types"):
                assert not any("Attn" in block for block in right[blocks])
            written.pop("attention_head_dim")
        assert written == {key: right[key] for key in written}, part
    index = read(folder / "model_index.json")
    assert index["_class_name"] == "UnCLIPPipeline"
    assert index["text_proj"] == ["diffusers.pipelines.deprecated.unclip.text_proj", "UnCLIPTextProjModel"]
    parts = {key for key in index if not key.startswith("_")}
    assert parts == {path.name for path in folder.iterdir() if path.is_dir()} == about["configs"].keys() | {"tokenizer"}
    assert (folder / "tokenizer" / "vocab.json").exists()


def test_a_cascade_trained_here_comes_back_the_same(folder, cascade, tmp_path, capsys):
    shutil.copytree(folder, tmp_path / "cascade")
    out = tmp_path / "out"
    assert main(["export-weights", str(tmp_path / "cascade"), "--format", "diffusers", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "diffusion_prior: candidates 2 cannot be asked for" in printed
    assert "upsampler: sampler 'ddim' cannot be asked for" in printed
    assert f"UnCLIPPipeline.from_pretrained({str(out)!r})" in printed
    assert (
        "pipeline(prompt, prior_num_inference_steps=5, decoder_num_inference_steps=6, super_res_num_inference_steps=3, "
        "prior_guidance_scale=2.0, decoder_guidance_scale=3.0)" in printed
    )
    back = unclip_jax.load_cascade(out, devices=jax.local_devices()[:1])
    assert list(back.stages) == list(cascade.stages)
    for name, stage in cascade.stages.items():
        right = parameters.flatten(stage.params)
        if name == "clip":
            right = {name: value for name, value in right.items() if name.startswith("text/")}
        found = parameters.flatten(back.stages[name].params)
        assert found.keys() == right.keys()
        for parameter, value in right.items():
            np.testing.assert_array_equal(found[parameter], value)
        if name != "clip":
            assert back.stages[name].spec.diffusion == stage.spec.diffusion
    for name, value in cascade.statistics.items():
        np.testing.assert_allclose(back.statistics[name], value, rtol=1e-6)


def test_the_second_upsampler_is_left_out_with_a_line(folder, cascade, tmp_path, capsys):
    copy, first = shutil.copytree(folder, tmp_path / "copy"), "upsampler_8_to_16"
    config = read(copy / first / "config.json")
    config["model"]["image_size"], config["low_res_size"] = 32, 16
    config["sampling"] = {"sampler": "ddpm", "steps": 9}
    second = from_json("upsampler_16_to_32", config, where=first)
    write_stages(copy, {second.name: StageFiles(second, cascade.stages[first].params)})
    out = tmp_path / "out"
    assert main(["export-weights", str(copy), "--format", "diffusers", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "upsampler_16_to_32 is left out: the layout has one upsampler, so that its pictures are 16 px" in printed
    assert "super_res_num_inference_steps=3," in printed
    assert read(out / "super_res_first/config.json")["sample_size"] == 16


def test_clip_is_transformers_own(folder, cascade, tmp_path):
    import transformers

    out = tmp_path / "clip"
    assert main(["export-weights", str(folder), "--format", "clip", "--out", str(out)]) == 0
    config = transformers.CLIPConfig.from_pretrained(out)
    assert config.vision_config.image_size == 16 and config.text_config.hidden_act == "quick_gelu"
    back = load_clip(out)
    assert parameters.digest(back.params) == parameters.digest(cascade.stages["clip"].params)
    prompts = ["a red circle"]
    np.testing.assert_array_equal(back.tokenizer.encode(prompts), cascade.tokenizer.encode(prompts))
    assert read(out / "preprocessor_config.json")["crop_size"] == {"height": 16, "width": 16}


def changed(folder, tmp_path, stage, change):
    copy = shutil.copytree(folder, tmp_path / "copy")
    config = read(copy / stage / "config.json")
    change(config)
    (copy / stage / "config.json").write_text(json.dumps(config))
    return copy


@pytest.mark.parametrize(
    ("stage", "change", "said"),
    [
        (
            "decoder",
            lambda config: config["diffusion"].update(predicts="v"),
            "predicts of decoder must be x0 or eps, which UnCLIPScheduler of diffusers supports, got 'v'",
        ),
        (
            "decoder",
            lambda config: config["diffusion"].update(schedule="linear"),
            "schedule of decoder must be cosine, which UnCLIPScheduler of diffusers supports, got 'linear'",
        ),
        ("upsampler_8_to_16", lambda config: config["diffusion"].update(variance="fixed_large"), "got 'fixed_large'"),
        (
            "diffusion_prior",
            lambda config: config["model"].update(activation="quick_gelu"),
            "activation of the prior must be 'gelu' in the layout of diffusers, got 'quick_gelu'",
        ),
        (
            "decoder",
            lambda config: config["model"].update(num_heads=4),
            "num_heads of the decoder must be None in the layout of diffusers, got 4",
        ),
    ],
)
def test_what_the_layout_cannot_hold_is_refused_and_nothing_written(folder, tmp_path, capsys, stage, change, said):
    copy = changed(folder, tmp_path, stage, change)
    assert main(["export-weights", str(copy), "--format", "diffusers", "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy"]


def test_wrong_arguments_are_one_line(folder, tmp_path, capsys):
    (tmp_path / "there").mkdir()
    for argv, said in (
        ([str(folder), "--format", "onnx", "--out", "x"], "Unknown --format 'onnx'. Available: diffusers, clip"),
        ([str(folder), "--format", "clip", "--out", str(tmp_path / "there")], "--out must be a new folder, got"),
        (["nowhere", "--format", "clip", "--out", "x"], "cascade 'nowhere' is no folder with a cascade.json"),
    ):
        assert main(["export-weights", *argv]) == 2
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1
