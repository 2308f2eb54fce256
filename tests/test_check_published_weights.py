"""launch/check_published_weights.sh with random weights in all layouts.

They are compared with a fake original implementation and, if it can be imported, with the real one.
"""

import hashlib
import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from tests.cascades.published import load, write_pipeline
from tests.cascades.test_published_openai import write_files
from tests.golden import check_published
from tests.golden.check_published import main
from tests.golden.drawn import drawn, gpt2_tokenizer, letters_tokenizer
from tests.pretrained import golden_networks, torch_writer
from tests.pretrained.clip.test_files import BUFFERS, SIZES, openai_arrays, write_hugging_face, write_open_clip
from tests.pretrained.clip.test_files import write_openai as write_openai_tensors
from unclip_jax import parameters
from unclip_jax.kinds import KINDS
from unclip_jax.models.network import build, parameter_shapes
from unclip_jax.pretrained.glide.weights import glide_rules
from unclip_jax.pretrained.guided_diffusion import classifier as guided_diffusion_classifier
from unclip_jax.pretrained.guided_diffusion.unet import guided_diffusion_rules
from unclip_jax.pretrained.karlo import original as karlo
from unclip_jax.pretrained.rules import export_tensors, import_params

ROOT = pathlib.Path(__file__).parents[1]
# Use two attention heads: with one, the order of queries, keys, values and heads has no effect.
UNET = {
    "image_size": 64, "channels": 64, "channel_mult": (1, 2), "res_blocks": 1, "attention_resolutions": (32,),
    "head_channels": 64, "num_heads": None, "in_channels": 3,
}  # fmt: skip
ATTENTION = ("attention_resolutions", "head_channels", "num_heads")
TEXT = {"embed_dim": 24, "text_width": 24}


def arrays_of(kind, fields, rules):
    """Returns random tensors of a network with these fields, by their published names."""
    shapes = parameters.flatten(parameter_shapes(build(KINDS.choose(kind).network, fields)))
    params = {name: np.zeros(shape.shape, np.float32) for name, shape in shapes.items()}
    return {name: drawn(name, x.shape) for name, x in export_tensors(parameters.unflatten(params), rules).items()}


def write_torch(path, arrays, within=None):
    tensors = torch_writer.tensors(arrays)
    path.write_bytes(torch_writer.zipped({within: tensors} if within else tensors))
    return path


def hugging_face(folder):
    _, config, arrays = golden_networks.load("clip-hugging-face-quick_gelu")
    return [write_hugging_face(folder / "clip", arrays, config)]


def open_clip(folder):
    _, config, arrays = golden_networks.load("clip-open-clip")
    return [write_open_clip(folder / "clip", arrays, config)]


def openai(folder):
    return [write_openai_tensors(folder / "ViT.pt", openai_arrays() | BUFFERS)]


def karlo_pipeline(folder, golden="karlo-pipeline"):
    write_pipeline(folder, load(golden)[1])
    for part in ("text_encoder", "image_encoder"):  # write_pipeline uses the file name of diffusers for all
        if (folder / part).exists():
            (folder / part / "diffusion_pytorch_model.safetensors").rename(folder / part / "model.safetensors")
    return [folder]


def karlo_variations(folder):
    return karlo_pipeline(folder, "karlo-variations")


def karlo_files(folder):
    """Karlo's original files, and a CLIP model."""
    prior = {**TEXT, "context_length": 12, "width": 128, "layers": 2, "heads": 2}
    decoder = {**UNET, **TEXT, "context_width": 40, "image_tokens": 3, "out_channels": 6}
    upsampler = {name: value for name, value in UNET.items() if name not in ATTENTION}
    upsampler |= {"image_size": 256, "in_channels": 6, "out_channels": 3, "scale_shift": False}
    first, last = (
        arrays_of("upsampler", upsampler, karlo.upsampler_rules(upsampler, source=source))
        for source in (karlo.UPSAMPLER_FIRST, karlo.UPSAMPLER_LAST)
    )
    files = {
        "prior-ckpt-step=1.ckpt": arrays_of("diffusion_prior", prior, karlo.prior_rules(prior)),
        "decoder-ckpt-step=1.ckpt": arrays_of("decoder", decoder, karlo.decoder_rules(decoder)),
        "improved-sr-ckpt-step=1.2M.ckpt": first | last,
    }
    (folder / "karlo").mkdir()
    for name, arrays in files.items():
        write_torch(folder / "karlo" / name, arrays, within="state_dict")
    mean, std = (torch_writer.Storage(name, drawn(name, (24,))) for name in ("mean", "deviation.weight"))
    pair = tuple(torch_writer.tensor(storage, (24,)) for storage in (mean, std))
    (folder / "karlo" / "ViT-L-14_stats.th").write_bytes(torch_writer.zipped(pair))
    return [folder / "karlo", "--clip", *hugging_face(folder)]


def glide(folder):
    gpt2_tokenizer(folder)
    return [write_files(folder, load("glide-samples")[1])]


def glide_inpainting(folder):
    """One file, without a tokenizer."""
    fields = UNET | {
        "image_size": 256, "attention_resolutions": (128,), "in_channels": 10, "vocab_size": 30, "context_length": 6,
        "text_width": 128, "text_layers": 1, "text_heads": 2,
    }  # fmt: skip
    return [write_torch(folder / "upsample_inpaint.pt", arrays_of("glide", fields, glide_rules(fields)))]


def guided(folder):
    write_files(folder, load("guided-diffusion-samples")[1])
    fields = UNET | {"out_channels": 6, "num_classes": 5}
    arrays = arrays_of("unet", fields, guided_diffusion_rules(fields, new_attention_order=True))
    write_torch(folder / "64x64_diffusion.pt", arrays)
    return [folder]


def classifier(folder):
    fields = UNET | {"num_classes": 7}
    arrays = arrays_of("noised_classifier", fields, guided_diffusion_classifier.classifier_rules(fields))
    return [write_torch(folder / "64x64_classifier.pt", arrays)]


# For each layout: the family, the networks, and the files listed in the row.
DIFFUSERS = "diffusion_pytorch_model.safetensors"
LAYOUTS = {
    hugging_face: ("CLIP in Hugging Face's layout", ["clip"], ["model.safetensors"]),
    open_clip: ("CLIP in OpenCLIP's layout", ["clip"], ["open_clip_pytorch_model.bin"]),
    openai: ("CLIP in OpenAI's layout", ["clip"], ["ViT.pt"]),
    karlo_pipeline: (
        "Karlo in diffusers' layout",
        ["clip", "diffusion_prior", "decoder", "upsampler_16_to_32", "upsampler_16_to_32, last step"],
        [*(f"{part}/{DIFFUSERS}" for part in ("decoder", "prior", "super_res_first", "super_res_last", "text_proj")),
         "text_encoder/model.safetensors"],
    ),
    karlo_variations: (
        "Karlo in diffusers' layout",
        ["clip", "decoder", "upsampler_16_to_32", "upsampler_16_to_32, last step"],
        [*(f"{part}/{DIFFUSERS}" for part in ("decoder", "super_res_first", "super_res_last", "text_proj")),
         "image_encoder/model.safetensors", "text_encoder/model.safetensors"],
    ),
    karlo_files: (
        "Karlo in its own layout",
        ["clip", "diffusion_prior", "decoder", "upsampler_64_to_256", "upsampler_64_to_256, last step"],
        ["ViT-L-14_stats.th", "decoder-ckpt-step=1.ckpt", "improved-sr-ckpt-step=1.2M.ckpt", "prior-ckpt-step=1.ckpt"],
    ),
    glide: ("GLIDE", ["base", "upsampler_64_to_256"], ["base.pt", "upsample.pt"]),
    glide_inpainting: ("GLIDE", ["upsampler_64_to_256"], ["upsample_inpaint.pt"]),
    guided: ("guided-diffusion", ["base", "upsampler_64_to_256"], ["64_256_upsampler.pt", "64x64_diffusion.pt"]),
    classifier: ("guided-diffusion", ["classifier"], ["64x64_classifier.pt"]),
}  # fmt: skip


def run(arguments, capsys):
    code = main([str(argument) for argument in arguments])
    return code, *capsys.readouterr()


def check_report(out, family, networks, files, folder):
    """Checks that every network was compared, and that the row lists each file with its digest."""
    assert re.findall(r"^(.+): [\d,]+ tensors, [\d,]+ parameters$", out, re.M) == networks
    assert "MISMATCH" not in out and out.count(", OK\n") >= len(networks)
    *_, row = out.splitlines()
    row_family, checked, row_files, date = row.strip("| ").split(" | ")
    assert row_family == family and re.fullmatch(r"\d{4}-\d\d-\d\d", date)
    assert checked == f"checked with the published file{'s' if len(files) > 1 else ''}"
    digests = re.findall(r"`(.+?)` sha256 (\w+)(?:, |$)", row_files)
    assert sorted(digests) == [
        (file, hashlib.sha256((folder / file).read_bytes()).hexdigest()) for file in sorted(files)
    ]


def root_of(source):
    return source if source.is_dir() else source.parent


@pytest.fixture
def fake_original(monkeypatch):
    """Replaces both implementations by constants and returns errors to add to the original outputs."""
    added = {}
    monkeypatch.setattr(check_published, "require", lambda family, peer: None)
    monkeypatch.setattr(check_published, "ours", lambda *_: {"output": np.array([[1.0, -4.0]])})

    def theirs(family, stage, given, *, is_last):
        return {"output": np.array([[1.0, -4.0]]) + added.get((stage.name, is_last), 0.0)}

    monkeypatch.setattr(check_published, "theirs", theirs)
    return added


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_layout_is_recognized_and_its_row_printed(layout, fake_original, tmp_path, capsys):
    source, *others = layout(tmp_path)
    code, out, err = run([source, *others], capsys)
    assert (code, err) == (0, "")
    check_report(out, *LAYOUTS[layout], root_of(source))


@pytest.mark.parametrize(
    ("network", "added", "message"),
    [
        (("decoder", False), 3e-4, None),
        (("decoder", False), 4.8e-4, "output: 1.2e-04 of the largest value, MISMATCH: more than 1e-04"),
        (("upsampler_16_to_32", True), np.nan, "output: nan of the largest value, MISMATCH"),
    ],
)
def test_mismatch_of_one_network_exits_with_1_and_prints_no_row(
    network, added, message, fake_original, tmp_path, capsys
):
    fake_original[network] = added
    code, out, err = run(karlo_pipeline(tmp_path), capsys)
    assert code == (0 if message is None else 1)
    assert ("| Karlo" in out) == (message is None) and out.count("MISMATCH") == (0 if message is None else 1)
    assert message is None or (message in out and err.count("\n") == 1 and "outputs differ" in err)


def test_difference_rejects_outputs_of_another_shape():
    with pytest.raises(ValueError, match=r"must have the original shape \[1\], got \[2\]"):
        check_published.difference(np.ones(2), np.ones(1))
    assert check_published.difference(np.array([1.0, 3.0]), np.array([2.0, -4.0])) == 7 / 4


@pytest.mark.parametrize("layout", [hugging_face, glide_inpainting])
def test_own_outputs_are_compared(layout, monkeypatch, tmp_path, capsys):
    """Uses our own network as the original, compiled for one row at a time and so with other XLA kernels."""
    monkeypatch.setattr(check_published, "require", lambda family, peer: None)
    monkeypatch.setattr(check_published, "SIDE", 16)

    def row_by_row(family, stage, given, *, is_last):
        rows = [
            check_published.ours(stage, stage.weights, {name: x[row : row + 1] for name, x in given.items()})
            for row in range(check_published.ROWS)
        ]
        return {name: rows[0][name] if not x.ndim else np.concatenate([row[name] for row in rows])
                for name, x in rows[0].items()}  # fmt: skip

    monkeypatch.setattr(check_published, "theirs", row_by_row)
    source, *_ = layout(tmp_path)
    code, out, _ = run([source], capsys)
    assert code == 0
    check_report(out, *LAYOUTS[layout], root_of(source))


def test_inputs_are_tokenized_captions_or_random_tokens_without_tokenizer(fake_original, tmp_path):
    (path,) = openai(tmp_path)
    tokenizer = letters_tokenizer(tmp_path / "tokenizer", **SIZES)
    models = [
        *check_published.find_models(str(path), tokenizer=str(tokenizer)),
        *check_published.find_models(str(path)),
    ]
    encoded, sampled = (check_published.inputs(one.published.stages[0], one.tokens)["tokens"] for one in models)
    assert encoded[0, 0] == 62 and 63 in encoded[0]
    np.testing.assert_array_equal(sampled.argmax(axis=1), [11, 5])
    np.testing.assert_array_equal(sampled[1, 6:], 0)


def test_unsupported_input_prints_one_line_and_exits_with_2(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "text.pt").write_text("no weights")
    (clip,), (labels,) = hugging_face(tmp_path), classifier(tmp_path)
    (tmp_path / "original").mkdir()
    original, *_ = karlo_files(tmp_path / "original")
    damaged = shutil.copytree(clip, tmp_path / "damaged")
    (damaged / "model.safetensors").write_bytes((clip / "model.safetensors").read_bytes()[:-8])
    for arguments, message in (
        (["nowhere"], "'nowhere' does not exist. Pass a file, a folder"),
        ([tmp_path / "text.pt"], "is not a supported weights file"),
        ([damaged], "not a valid safetensors file"),
        ([original], r"includes no CLIP model. Pass the one it was trained with: --clip"),
        ([clip, "--clip", clip], "does not use another CLIP model"),
        ([clip, "--peer", "nowhere"], "--peer must be a folder, got 'nowhere'"),
    ):
        code, out, err = run(arguments, capsys)
        assert (code, out) == (2, "") and err.count("\n") == 1
        assert err.startswith("check_published_weights: ") and message in err, err
    monkeypatch.setattr(check_published, "require", lambda family, peer: None)
    code, _, err = run([labels, "--tokenizer", clip], capsys)
    assert code == 2 and "guided-diffusion uses no tokenizer. Omit --tokenizer" in err


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_missing_package_is_reported_with_its_source(layout, tmp_path, monkeypatch, capsys):
    source, *_ = layout(tmp_path)
    family = LAYOUTS[layout][0]
    module, installation = check_published.ORIGINALS[family]
    package = module.split(".")[0]
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ValueError, match=r"needs torch, which cannot be imported .*: \.venv/bin/pip install \"\.\[par"):
        check_published.require(family, str(root_of(source)))
    if package == "torch":
        return
    monkeypatch.setitem(sys.modules, "torch", sys)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError) as error:
        check_published.require(family, str(tmp_path))
    assert f"{family} needs {package}, which cannot be imported" in str(error.value)
    from_parity = package in ("transformers", "diffusers")
    assert ('install ".[parity]"' if from_parity else "git clone https://github.com/") in installation
    assert str(error.value).endswith(installation)


def test_original_implementation_is_imported_from_given_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setitem(sys.modules, "torch", sys)
    monkeypatch.setitem(check_published.ORIGINALS, "GLIDE", ("original_of_this_test.unet", "nowhere"))
    with pytest.raises(ValueError, match="needs original_of_this_test"):
        check_published.require("GLIDE", str(tmp_path))
    (tmp_path / "clone/original_of_this_test").mkdir(parents=True)
    (tmp_path / "clone/original_of_this_test/unet.py").touch()
    check_published.require("GLIDE", str(tmp_path / "clone"))
    assert pathlib.Path(sys.modules["original_of_this_test.unet"].__file__).is_relative_to(tmp_path / "clone")
    del sys.modules["original_of_this_test"], sys.modules["original_of_this_test.unet"]


def openai_traced(folder):
    """A TorchScript file that contains its original code."""
    from tests.golden.traced_clip import write_traced

    write_traced(folder / "ViT.pt", openai_arrays(), BUFFERS)
    return [folder / "ViT.pt"]


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_outputs_match_original_implementation(layout, tmp_path, capsys):
    family = LAYOUTS[layout][0]
    pytest.importorskip("torch", reason="the original implementation needs PyTorch (extra `parity`)")
    for module in {check_published.ORIGINALS[family][0], "open_clip" if layout is openai else "torch"}:
        pytest.importorskip(module, reason=f"{family} is compared with {module}, which cannot be imported")
    source, *others = (openai_traced if layout is openai else layout)(tmp_path)
    code, out, err = run([source, *others], capsys)
    assert code == 0, out + err
    check_report(out, *LAYOUTS[layout], root_of(source))
    assert ("Running the code that it contains" in out) == (layout is openai)


def test_changed_parameter_differs_from_original_implementation(tmp_path, monkeypatch, capsys):
    pytest.importorskip("torch", reason="the original implementation needs PyTorch (extra `parity`)")

    def changed(*args, **kwargs):
        params = import_params(*args, **kwargs)
        params["image"]["norm_post"]["bias"][3] += 0.01
        return params

    monkeypatch.setattr(check_published, "import_params", changed)
    code, out, _ = run(hugging_face(tmp_path), capsys)
    assert code == 1 and re.findall(r"(\w+): .* MISMATCH", out) == ["image"]


def copy_scripts(folder):
    """Copies the scripts, with an existing environment whose Python prints its arguments."""
    shutil.copytree(ROOT / "launch", folder / "launch")
    for name in ("setup.py", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    (folder / ".venv/bin").mkdir(parents=True)
    (folder / ".venv/bin/python").write_text('#!/usr/bin/env bash\nprintf "%s\\n" "$PWD" "$@"\nexit 1\n')
    (folder / ".venv/bin/python").chmod(0o755)
    state = subprocess.run(
        '{ cat setup.py pyproject.toml; echo "$PWD"; } | cksum', shell=True, cwd=folder, capture_output=True, text=True
    )
    (folder / ".venv/installed").write_text(f"{state.stdout.strip()}:parity\n")
    return folder / "launch/check_published_weights.sh"


def test_script_resolves_paths_of_caller_and_returns_exit_code(tmp_path):
    (tmp_path / "copy").mkdir()
    script = copy_scripts(tmp_path / "copy")
    (tmp_path / "here/glide").mkdir(parents=True)
    (tmp_path / "here/clone").mkdir()

    def call(*arguments):
        return subprocess.run(["bash", script, *arguments], cwd=tmp_path / "here", capture_output=True, text=True)

    done = call("glide", "--peer", "clone", "--tokenizer", "some/name")
    assert done.returncode == 1 and done.stdout.splitlines() == [
        str(tmp_path / "copy"), "-m", "tests.golden.check_published", str(tmp_path / "here/glide"),
        "--peer", str(tmp_path / "here/clone"), "--tokenizer", "some/name",
    ]  # fmt: skip
    done = call()
    assert done.returncode == 2 and done.stderr == (
        "check_published_weights.sh: SOURCE is required: file or folder of a published model.\n"
    )
