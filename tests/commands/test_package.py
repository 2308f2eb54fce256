"""`unclip train` and `unclip package`: tiny stages are trained and packaged as a cascade."""

import json
import pathlib
import shutil

import jax
import numpy as np
import pytest

from tests.cascades.tiny import write_tiny_cascade
from unclip_jax import experiment, parameters
from unclip_jax.__main__ import main
from unclip_jax.cascades import sources
from unclip_jax.cascades.folder import load_stage
from unclip_jax.cascades.loading import load_cascade
from unclip_jax.cascades.text_to_image import text_to_image
from unclip_jax.experiment.config import typed
from unclip_jax.experiment.train import _start
from unclip_jax.training.checkpoints import restore_params

pytestmark = pytest.mark.usefixtures("one_device")

CONFIGS = pathlib.Path(__file__).parents[2] / "configs/shapes"
SHORT = [
    "training.steps=2", "training.global_batch=8", "training.eval_batches=1", "training.preview_every=2",
    "training.checkpoint_every=2", "training.log_every=1", "data.source=captioned_shapes/tiny", "data.threads=0",
]  # fmt: skip
TEXT = ["model.embed_dim=16", "model.text_width=16"]
TINY = {
    "clip": [
        *TEXT, "model.image_width=16", "model.image_layers=1", "model.text_layers=1",
        "data.source=captioned_shapes/contrasts_tiny",
    ],
    "diffusion_prior": [*TEXT, "model.width=24", "model.layers=1"],
    "decoder": [
        *TEXT, "model.channels=16", "model.channel_mult=(1, 1)", "model.res_blocks=1", "model.groups=8",
        "model.attention_resolutions=(8,)", "model.head_channels=16", "model.context_width=16",
    ],
    "upsampler_16_to_64": ["model.channels=16", "model.channel_mult=(1, 1)", "model.groups=8"],
    "upsampler_64_to_256": ["model.channels=8", "model.channel_mult=(1, 1)", "model.groups=8"],
}  # fmt: skip


def train(stage: str, workdir: pathlib.Path, *overrides: str) -> int:
    flags = [f"--config.{override}" for override in (*SHORT, *TINY[stage], *overrides)]
    return main(["train", f"--config={CONFIGS / stage}.py", f"--workdir={workdir}", *flags])


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Every stage, trained for two steps and packaged in `shapes`, CLIP first."""
    runs = tmp_path_factory.mktemp("runs")
    assert train("clip", runs / "clip") == 0
    assert main(["package", str(runs / "clip"), "--out", str(runs / "shapes")]) == 0
    for stage in list(TINY)[1:]:
        frozen = [] if stage.startswith("upsampler") else [f"encoders.clip={runs / 'shapes' / 'clip'}"]
        assert train(stage, runs / stage, *frozen) == 0
    workdirs = [str(runs / stage) for stage in TINY]
    assert main(["package", *workdirs, "--out", str(runs / "shapes"), "--draws", "shapes"]) == 0
    return runs


def test_packaged_cascade_generates_an_image(runs):
    cascade = load_cascade(runs / "shapes")
    assert list(cascade.stages) == list(TINY)
    steps = {"prior": 2, "decoder": 2, "upsampler_16_to_64": 1, "upsampler_64_to_256": 1}
    generated = text_to_image(cascade, ["a red circle"], steps=steps)
    assert generated.shape == (1, 256, 256, 3) and generated.dtype == np.uint8
    statistics = cascade.stages["diffusion_prior"].extras["statistics"]
    assert statistics["mean"].shape == (16,) and np.all(statistics["std"] > 0)


def test_train_writes_metrics_and_previews_of_image_stages(runs):
    for stage in TINY:
        assert (runs / stage / "metrics.jsonl").read_text().count("\n") == 2
        assert bool(list((runs / stage).glob("previews/*.png"))) == (stage in list(TINY)[2:])


@pytest.mark.parametrize("source", ["upsampler_16_to_64", "shapes/upsampler_16_to_64"], ids=["workdir", "packaged"])
def test_init_from_loads_weights_of_a_workdir_or_packaged_stage(runs, tmp_path, source):
    unchanged = ["training.steps=1", "optimizer.learning_rate=0.0", f"training.init_from={runs / source}"]
    assert train("upsampler_16_to_64", tmp_path / "run", *unchanged) == 0
    workdirs = (runs / "upsampler_16_to_64", tmp_path / "run")
    before, after = (parameters.flatten(restore_params(workdir).params) for workdir in workdirs)
    for name, value in before.items():
        np.testing.assert_allclose(after[name], value, rtol=1e-3, atol=1e-6)  # packaged as float16
    trained = [np.abs(value).max() for name, value in before.items() if "conv_2/kernel" in name]
    assert min(trained) > 1e-6  # these are zeros at initialization


@pytest.mark.parametrize(
    ("source", "words"),
    [("clip", "clip/tokenizer"), ("shapes/clip", "shapes/clip/tokenizer")],
    ids=["workdir", "packaged"],
)
def test_fine_tuned_clip_keeps_tokenizer(runs, tmp_path, source, words):
    """A new tokenizer would not match the weights, so only the list of known words is extended."""
    initial = tmp_path / "initial"
    shutil.copytree(runs / source.split("/")[0], initial / source.split("/")[0])
    (initial / words / "words.json").write_text('["unicorn"]')
    assert train("clip", tmp_path / "run", "training.steps=1", f"training.init_from={initial / source}") == 0
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        kept, own = (workdir / "tokenizer" / name for workdir in (tmp_path / "run", runs / "clip"))
        assert kept.read_bytes() == own.read_bytes()
    kept, own = (json.loads((at / "tokenizer/words.json").read_text()) for at in (tmp_path / "run", runs / "clip"))
    assert kept == sorted([*own, "unicorn"])
    assert not list((tmp_path / "run" / "tokenizer").glob("params*"))
    # Auxiliary parameters of the task are not packaged.
    assert main(["package", str(tmp_path / "run"), "--out", str(tmp_path / "shapes")]) == 0
    packaged, own = (load_stage(folder / "clip").params for folder in (tmp_path / "shapes", runs / "shapes"))
    assert jax.tree.structure(packaged) == jax.tree.structure(own)


def test_fine_tuning_clip_requires_its_tokenizer(runs, tmp_path, capsys):
    shutil.copytree(runs / "shapes" / "clip", tmp_path / "alone" / "clip", ignore=shutil.ignore_patterns("tokenizer"))
    assert train("clip", tmp_path / "run", f"training.init_from={tmp_path / 'alone' / 'clip'}") == 2
    err = capsys.readouterr().err
    assert "has no tokenizer. Use a folder that has one" in err and err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_packaged_stage_stores_provenance(runs, tmp_path):
    def provenance(cascade, stage):
        return json.loads((cascade / stage / "config.json").read_text())["provenance"]

    stage = "upsampler_16_to_64"
    fresh = {
        "steps": 2, "global_batch": 8, "seed": 0, "data": "captioned_shapes/tiny 1.1.0", "split": "train", "from": None,
    }  # fmt: skip
    contrasts = {**fresh, "data": "captioned_shapes/contrasts_tiny 1.1.0"}
    expected = {**dict.fromkeys(TINY, fresh), "clip": contrasts}
    assert {name: provenance(runs / "shapes", name) for name in TINY} == expected

    packaged, source = runs / "shapes" / stage, tmp_path / "source"
    shutil.copytree(packaged, source)
    assert train(stage, tmp_path / "run", f"training.init_from={source}", "training.steps=1", "training.seed=5") == 0
    shutil.rmtree(source)  # resuming does not need it
    assert train(stage, tmp_path / "run", f"training.init_from={source}", "training.seed=5") == 0
    assert main(["package", str(tmp_path / "run"), "--out", str(tmp_path / "out")]) == 0
    initial = {"digest": parameters.digest_of_file(packaged / "params.safetensors"), "trained": fresh}
    expected = {**fresh, "seed": 5, "from": initial}
    assert provenance(tmp_path / "out", stage) == expected

    # A workdir has the same provenance as the packaged stage.
    config = experiment.load_config(CONFIGS / f"{stage}.py", TINY[stage])
    config.training.init_from = str(tmp_path / "run")
    start = _start(typed(config))
    params, initial = start.params, start.source
    assert initial == {"digest": parameters.digest(params), "trained": expected}


def test_bundled_cascade_rejects_stages_without_provenance(runs, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sources, "_bundled", lambda: tmp_path / "bundled")
    (tmp_path / "bundled").mkdir()
    unknown = write_tiny_cascade(tmp_path / "unknown")
    assert main(["package", "--clip", str(unknown), "--out", str(tmp_path / "bundled" / "own")]) == 2
    err = capsys.readouterr().err
    assert "provenance of clip lacks steps, global_batch, seed, data, split, from." in err
    assert err.count("\n") == 1 and not (tmp_path / "bundled" / "own").exists()
    assert main(["package", str(runs / "upsampler_16_to_64"), "--out", str(tmp_path / "bundled" / "own")]) == 0
    assert main(["package", "--clip", str(unknown), "--out", str(tmp_path / "elsewhere")]) == 0


def test_sampling_settings_can_be_changed_after_training(runs, tmp_path):
    stage, out = "upsampler_16_to_64", tmp_path / "cascade"
    assert main(["package", str(runs / "clip"), "--out", str(out)]) == 0
    for steps in (5, 9):
        assert train(stage, runs / stage, f"sampling.steps={steps}") == 0
        assert main(["package", str(runs / stage), "--out", str(out)]) == 0
        assert load_cascade(out, stages=[stage]).stages[stage].spec.sampling.steps == steps


def test_init_from_lists_mismatched_weights(runs, tmp_path, capsys):
    assert train("upsampler_16_to_64", tmp_path / "run", f"training.init_from={runs / 'decoder'}") == 2
    err = capsys.readouterr().err
    assert "do not match the network. Unexpected: image_to_time/bias" in err and "Wrong shape: unet/" in err
    assert train("upsampler_16_to_64", tmp_path / "run", "training.init_from=nowhere") == 2
    assert "a workdir or the folder of a stage in a cascade, got 'nowhere'" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_package_rejects_stage_of_another_clip(runs, tmp_path, capsys):
    assert train("clip", tmp_path / "clip", "training.seed=1") == 0
    assert main(["package", str(tmp_path / "clip"), "--out", str(tmp_path / "other")]) == 0
    before = sorted(path.name for path in (tmp_path / "other").iterdir())
    capsys.readouterr()
    assert main(["package", str(runs / "decoder"), "--out", str(tmp_path / "other")]) == 2
    assert "decoder was trained with a CLIP of digest" in capsys.readouterr().err
    assert sorted(path.name for path in (tmp_path / "other").iterdir()) == before


def test_package_includes_clip_of_another_cascade(runs, tmp_path):
    out = tmp_path / "cascade"
    assert main(["package", str(runs / "decoder"), "--clip", str(runs / "shapes"), "--out", str(out)]) == 0
    included, own = (load_cascade(folder, stages=["clip", "decoder"]) for folder in (out, runs / "shapes"))
    assert parameters.digest(included.stages["clip"].params) == parameters.digest(own.stages["clip"].params)
    tokens = [cascade.stages["clip"].tokenizer.encode(["a red circle"]) for cascade in (included, own)]
    np.testing.assert_array_equal(*tokens)


def test_package_requires_workdir_or_clip(tmp_path, capsys):
    assert main(["package", "--out", str(tmp_path / "out")]) == 2
    assert "Pass at least one WORKDIR or --clip." in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_resume_rejects_changed_config_field(runs, capsys):
    assert train("upsampler_16_to_64", runs / "upsampler_16_to_64", "optimizer.learning_rate=0.5") == 2
    err = capsys.readouterr().err
    assert "optimizer.learning_rate is 0.5 and was 0.0006" in err and err.count("\n") == 1


@pytest.mark.parametrize(
    "override, message",
    [
        ("model.chanels=3", "config.model has no field 'chanels'. Available: "),
        ("mesh.fsdp=3", "mesh sizes must multiply to 1, the number of devices"),
        ("model.channel_mult=(1, 1, 1, 1, 1, 1, 1, 1)", "must be a multiple of 128 for the 8 levels"),
        ("encoders.clip=nowhere", "config.encoders has no role clip. Available: none"),
    ],
)
def test_invalid_config_prints_one_line_and_writes_nothing(tmp_path, capsys, override, message):
    assert train("upsampler_16_to_64", tmp_path / "run", override) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_package_rejects_workdir_without_checkpoint(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert main(["package", str(tmp_path / "empty"), "--out", str(tmp_path / "out")]) == 2
    assert "contains no checkpoint. Run `unclip train` first." in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
