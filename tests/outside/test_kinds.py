"""Kinds and samplers of other packages, and safety of module imports."""

import importlib
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Mapping, Sequence

import jax
import numpy as np
import pytest

import unclip_jax
from tests.distributions import write_distribution
from tests.outside import blob_kind, half_way
from tests.outside.helpers import TEXT, only_line
from tests.randomised import randomise
from unclip_jax import images, kinds
from unclip_jax.__main__ import main
from unclip_jax.cascades.folder_writing import StageFiles, write_stages
from unclip_jax.cascades.text_to_image import text_to_image
from unclip_jax.diffusion.samplers import SAMPLERS
from unclip_jax.diffusion.samplers.table import SamplerOptions
from unclip_jax.diffusion.schedule import cosine
from unclip_jax.kinds import KINDS, kind_of
from unclip_jax.models.network import parameter_shapes
from unclip_jax.stages.spec import from_json

pytestmark = [
    pytest.mark.usefixtures("one_device", "tables"),
    pytest.mark.filterwarnings("ignore:a caption of .* is truncated:UserWarning"),  # the tokenizer is tiny
]

ROOT = pathlib.Path(__file__).parents[2]
OUTSIDE = ROOT / "tests/outside"
QUICK = [
    "--config.training.eval_batches=1", "--config.training.preview_every=2", "--config.training.checkpoint_every=2",
    "--config.training.log_every=1",
]  # fmt: skip
KNOWN = "Available: clip, diffusion_prior, decoder, upsampler, glide, unet, noised_clip, noised_classifier."


@pytest.mark.parametrize("config", ["blob_config.py", "registering_config.py"])
def test_registered_kind_can_be_trained_packaged_and_sampled(folder, tmp_path, monkeypatch, capsys, config):
    monkeypatch.setenv("BLOB_CLIP", str(folder))
    if config == "blob_config.py":
        kinds.register(blob_kind.KIND)
    run, made = tmp_path / "run", tmp_path / "made"
    assert main(["train", f"--config={OUTSIDE / config}", f"--workdir={run}", *QUICK]) == 0, capsys.readouterr().err
    assert main(["package", str(run), "--clip", str(folder), "--out", str(tmp_path / "blobs")]) == 0
    prompts = ["a red circle", "a green ring"]
    assert main(["generate", *prompts, "--cascade", str(tmp_path / "blobs"), "--out", str(made)]) == 0
    written = [images.read_image(path) for path in sorted(made.iterdir())]
    cascade = unclip_jax.load_cascade(tmp_path / "blobs")
    np.testing.assert_array_equal(text_to_image(cascade, prompts), written)
    assert np.shape(written) == (2, 16, 16, 3)
    stored = json.loads((tmp_path / "blobs/blobs/config.json").read_text())
    assert (stored["kind"], stored["sampling"]) == ("blob", {"sampler": "ddim", "steps": 4, "guidance_scale": 2.0})
    assert json.loads((run / "config.json").read_text())["task"]["drop_text"] == 0.25
    if config == "blob_config.py":  # names and values of options are validated
        for field, message in (("drop_txt=1", "has no field 'drop_txt'"), ("drop_text=2", "drop_text must be in")):
            arguments = [f"--config={OUTSIDE / config}", f"--workdir={run}", f"--config.task.{field}"]
            capsys.readouterr()
            assert main(["train", *arguments]) == 2 and message in only_line(capsys)


def test_registered_kind_supports_guidance_and_candidates(copy):
    """With zero convolutions, every x0 is u + s (c - u), for the colors c of the caption and u of the empty caption."""
    kinds.register(blob_kind.KIND)
    content = {
        "model": {"image_size": 8, **TEXT},
        "diffusion": {"predicts": "x0"},
        "sampling": {"sampler": "ddim", "steps": 1, "guidance_scale": 3.0},
        "encoders": {"clip": {"stage": "clip"}},
    }
    spec = from_json("blobs", {"schema": 2, "kind": "blob", **content}, where="blobs")
    shapes = parameter_shapes(kind_of(spec).build(spec, where="blobs"))
    params = jax.tree.map(lambda x: 0.1 * x, randomise(shapes))
    params["conv"] = jax.tree.map(np.zeros_like, params["conv"])
    color = params["color"]
    write_stages(copy, {"blobs": StageFiles(spec, params, dtype=np.float32)})
    cascade = unclip_jax.load_cascade(copy, stages=["clip", "blobs"])
    c, u = unclip_jax.encode_text(cascade.stages["clip"], ["a red circle", ""]) @ color["kernel"] + color["bias"]
    expected = np.broadcast_to(images.to_uint8(u + 3.0 * (c - u)), (1, 8, 8, 3))
    assert np.max(np.abs(text_to_image(cascade, ["a red circle"]).astype(int) - expected)) <= 1
    # CLIP ranks candidates although the kind reads no image embedding. Here all candidates are equal.
    chosen = text_to_image(cascade, ["a red circle"], sampling={"blobs": {"candidates": 3}})
    assert np.max(np.abs(chosen.astype(int) - expected)) <= 1


# ---- entry points


def install(site: pathlib.Path, entry_points: Mapping[str, Sequence[str]], **modules: str) -> None:
    """Installs a distribution with the modules of this folder as top-level modules."""
    copied = [OUTSIDE / "blob_kind.py", OUTSIDE / "half_way.py"]
    write_distribution(site, "outside-blob", entry_points, copied=copied, **modules)


@pytest.mark.slow
def test_entry_points_provide_kind_and_sampler_to_the_command_line(folder, tmp_path):
    entry_points = {
        "unclip_jax.kinds": ["anything = blob_kind:KIND"],
        "unclip_jax.samplers": ["half_way = half_way:half_way"],
    }
    install(tmp_path / "site", entry_points)
    paths = {"with": [tmp_path / "site", ROOT], "without": [ROOT]}

    def unclip(*arguments, path="with"):
        environment = {
            **os.environ, "BLOB_CLIP": str(folder), "PYTHONPATH": os.pathsep.join(map(str, paths[path])),
            "JAX_NUM_CPU_DEVICES": "1",
        }  # fmt: skip
        command = [sys.executable, "-m", "unclip_jax", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)

    train = ("train", f"--config={OUTSIDE / 'blob_config.py'}", "--workdir=run", *QUICK)
    generate = ("generate", "a red circle", "--cascade", "blobs", "--out", "made.png")
    done = unclip(*train, path="without")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr == f"unclip train: Unknown stage kind 'blob' in config.task.kind. {KNOWN}\n"
    commands = (
        train,
        ("package", "run", "--clip", folder, "--out", "blobs"),
        (*generate, "--sampler", "blobs=half_way"),
    )
    for arguments in commands:
        done = unclip(*arguments)
        assert done.returncode == 0, done.stderr
    settings = json.loads(images.read_png_metadata(tmp_path / "made.png")["settings"])
    assert settings["blobs"]["sampler"] == "half_way"
    done = unclip(*generate, path="without")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr == f"unclip generate: Unknown stage kind 'blob' in stage 'blobs'. {KNOWN}\n"


def test_all_entry_points_are_loaded_and_failures_are_reported(tmp_path, monkeypatch, copy, capsys):
    entry_points = {"unclip_jax.kinds": ["broken = blob_broken:KIND", "blob = blob_kind:KIND"]}
    install(tmp_path / "site", entry_points, blob_broken="raise RuntimeError('out of\\npaint')\n")
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.delitem(sys.modules, "blob_kind", raising=False)
    assert KINDS.choose("blob").network.__module__ == "blob_kind"
    rewrite(copy / "upsampler_8_to_16/config.json", kind="other")
    assert main(["generate", "a ring", "--cascade", str(copy), "--out", str(tmp_path / "made.png")]) == 2
    line = only_line(capsys)
    failure = "Entry point 'broken' of outside-blob failed to load: RuntimeError: out of paint."
    assert "Unknown stage kind 'other'" in line and f"noised_classifier, blob. {failure}" in line
    monkeypatch.delitem(sys.modules, "blob_kind")


def rewrite(path: pathlib.Path, **fields) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@pytest.mark.parametrize("kind", ["os.path:join", "evil_module", "evil_module:KIND", "tests.outside.blob_kind:KIND"])
def test_cascade_files_cannot_choose_imported_modules(copy, tmp_path, monkeypatch, capsys, kind):
    (tmp_path / "evil").mkdir()
    (tmp_path / "evil/evil_module.py").write_text(f"open({str(tmp_path / 'marker')!r}, 'w').close()\n")
    monkeypatch.syspath_prepend(tmp_path / "evil")
    importlib.invalidate_caches()
    rewrite(copy / "decoder/config.json", kind=kind)
    before = set(sys.modules)
    assert main(["generate", "a ring", "--cascade", str(copy), "--out", str(tmp_path / "made.png")]) == 2
    line = only_line(capsys)
    assert line == f"unclip generate: Unknown stage kind {kind!r} in stage 'decoder'. {KNOWN}\n"
    rewrite(copy / "decoder/config.json", kind="decoder", sampling={"sampler": kind, "steps": 2})
    with pytest.raises(ValueError, match="must be one of ddpm, ddim, dpm, got "):
        unclip_jax.load_cascade(copy)
    assert not (tmp_path / "marker").exists() and "evil_module" not in sys.modules
    known = {*sys.stdlib_module_names, "unclip_jax"}
    assert not {name for name in set(sys.modules) - before if name.partition(".")[0] not in known}


# ---- samplers


def test_registered_sampler_can_be_selected_by_name(folder):
    cascade = unclip_jax.load_cascade(folder)
    with pytest.raises(ValueError, match="sampler of decoder must be one of ddpm, ddim, dpm, got 'half_way'.$"):
        text_to_image(cascade, ["a ring"], sampler={"decoder": "half_way"})
    SAMPLERS.register("half_way", half_way.half_way)
    made = [
        text_to_image(cascade, ["a ring"], sampler={"decoder": name}, stop_after="decoder").astype(int)
        for name in ("half_way", "ddim")
    ]
    assert np.max(np.abs(made[0] - made[1])) > 10
    assert isinstance(SAMPLERS.choose("half_way")(cosine(10), SamplerOptions()), half_way.HalfWay)
