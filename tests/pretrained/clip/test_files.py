"""Files of CLIP models in all layouts, and downloads from the hub."""

import json

import numpy as np
import pytest
from safetensors import numpy as safetensors_numpy

import unclip_jax
from tests.golden.drawn import drawn, letters_tokenizer
from tests.pretrained import torch_writer
from tests.pretrained.clip.test_networks import outputs
from tests.pretrained.golden_networks import TOLERANCE, load
from unclip_jax import parameters
from unclip_jax.__main__ import main
from unclip_jax.pretrained import hub
from unclip_jax.pretrained.tensor_files import open_tensors

SIZES = {"vocab_size": 64, "context_length": 12}  # of the tokenizer of the golden CLIP models
BUFFERS = {"input_resolution": np.array(32), "context_length": np.array(12), "vocab_size": np.array(64)}


def write_hugging_face(folder, arrays, config):
    letters_tokenizer(folder, **SIZES)
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "clip"}))
    safetensors_numpy.save_file(arrays, folder / "model.safetensors")
    return folder


def write_open_clip(folder, arrays, config):
    letters_tokenizer(folder, **SIZES)
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    (folder / "open_clip_pytorch_model.bin").write_bytes(torch_writer.zipped(torch_writer.tensors(arrays)))
    return folder


def check_outputs(clip, golden):
    actual = outputs(clip.module, clip.params, golden)
    for name in actual.keys() & set(golden.files):
        assert np.max(np.abs(actual[name] - golden[name])) <= TOLERANCE * np.max(np.abs(golden[name])), name


@pytest.fixture
def hugging_face(tmp_path):
    golden, config, arrays = load("clip-hugging-face-quick_gelu")
    return golden, write_hugging_face(tmp_path / "clip", arrays, config)


@pytest.fixture
def open_clip(tmp_path):
    golden, config, arrays = load("clip-open-clip")
    return golden, write_open_clip(tmp_path / "clip", arrays, config)


def test_hugging_face_folder_matches_reference_outputs(hugging_face):
    golden, folder = hugging_face
    clip = unclip_jax.load_clip(folder)
    check_outputs(clip, golden)
    assert clip.tokenizer.encode(["a"])[0].tolist()[0] == 62


def test_sharded_pytorch_weights_match_reference_outputs(hugging_face):
    golden, folder = hugging_face
    arrays = safetensors_numpy.load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(arrays)
    shards = {"a.bin": names[::2], "b.bin": names[1::2]}
    for shard, shard_names in shards.items():
        tensors = torch_writer.tensors({name: arrays[name] for name in shard_names})
        (folder / shard).write_bytes(torch_writer.legacy(tensors))
    weight_map = {name: shard for shard, shard_names in shards.items() for name in shard_names}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    check_outputs(unclip_jax.load_clip(folder), golden)
    (folder / "b.bin").unlink()
    with pytest.raises(ValueError, match=r"pytorch_model.bin.index.json' lists missing files: b.bin."):
        unclip_jax.load_clip(folder)


def test_position_ids_are_ignored_and_unknown_tensors_rejected(hugging_face):
    golden, folder = hugging_face
    arrays = safetensors_numpy.load_file(folder / "model.safetensors")
    arrays["text_model.embeddings.position_ids"] = np.arange(12)[None]
    safetensors_numpy.save_file(arrays, folder / "model.safetensors")
    check_outputs(unclip_jax.load_clip(folder), golden)
    arrays["text_model.embeddings.strange"] = np.arange(12)
    safetensors_numpy.save_file(arrays, folder / "model.safetensors")
    with pytest.raises(ValueError, match="Unexpected: text_model.embeddings.strange"):
        unclip_jax.load_clip(folder)


def test_open_clip_folder_matches_reference_outputs(open_clip):
    golden, folder = open_clip
    check_outputs(unclip_jax.load_clip(folder), golden)


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        ("vision_cfg", "timm_model_name", "vit", "Unsupported settings in vision_cfg of .*: timm_model_name"),
        ("text_cfg", "hf_model_name", "roberta", "Unsupported settings in text_cfg of .*: hf_model_name"),
        (None, "multimodal_cfg", {"width": 1}, "Unsupported settings in model_cfg of .*: multimodal_cfg"),
    ],
)
def test_open_clip_config_with_other_architecture_is_rejected(open_clip, section, key, value, message):
    _, folder = open_clip
    config = json.loads((folder / "open_clip_config.json").read_text())
    (config["model_cfg"][section] if section else config["model_cfg"])[key] = value
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=message):
        unclip_jax.load_clip(folder)


def test_other_image_normalization_is_rejected(open_clip, hugging_face):
    for folder, name, content in (
        (open_clip[1], "open_clip_config.json", {"preprocess_cfg": {"mean": [0.5, 0.5, 0.5]}}),
        (hugging_face[1], "preprocessor_config.json", {"image_std": [0.5, 0.5, 0.5]}),
    ):
        before = json.loads((folder / name).read_text()) if (folder / name).exists() else {}
        (folder / name).write_text(json.dumps(before | content))
        with pytest.raises(ValueError, match=r"must be \[0\..*, got \[0.5, 0.5, 0.5\]"):
            unclip_jax.load_clip(folder)


def openai_arrays():
    """Returns tensors of a small model of OpenAI, with one text head and two image heads of 64 channels."""
    shapes = {
        "text_projection": (64, 24), "positional_embedding": (12, 64), "logit_scale": (),
        "token_embedding.weight": (64, 64), "visual.class_embedding": (128,), "visual.proj": (128, 24),
        "visual.conv1.weight": (128, 3, 8, 8), "visual.positional_embedding": (17, 128),
    }  # fmt: skip
    for norm, width in (("visual.ln_pre", 128), ("visual.ln_post", 128), ("ln_final", 64)):
        shapes |= {f"{norm}.{kind}": (width,) for kind in ("weight", "bias")}
    for tower, width in (("visual.transformer", 128), ("transformer", 64)):
        block = f"{tower}.resblocks.0"
        shapes |= {f"{block}.attn.in_proj_weight": (3 * width, width), f"{block}.attn.in_proj_bias": (3 * width,)}
        for name, out, into in (("attn.out_proj", 1, 1), ("mlp.c_fc", 4, 1), ("mlp.c_proj", 1, 4)):
            shapes |= {f"{block}.{name}.weight": (out * width, into * width), f"{block}.{name}.bias": (out * width,)}
        for norm in ("ln_1", "ln_2"):
            shapes |= {f"{block}.{norm}.{kind}": (width,) for kind in ("weight", "bias")}
    return {name: drawn(name, shape).astype(np.float16) for name, shape in shapes.items()}


def write_openai(path, arrays):
    """Writes nested modules as TorchScript does."""
    tree, flat = {}, torch_writer.tensors(arrays)
    for name, tensor in flat.items():
        *parents, leaf = name.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = tensor

    def module(node):
        parts = {name: module(part) if isinstance(part, dict) else part for name, part in node.items()}
        return torch_writer.script_object("Module", training=False, **parts)

    path.write_bytes(torch_writer.zipped(module(tree)))
    return path


def test_openai_file_has_heads_of_64_channels_and_quick_gelu(tmp_path):
    arrays = openai_arrays()
    path = write_openai(tmp_path / "ViT.pt", arrays | BUFFERS)
    clip = unclip_jax.load_clip(path, tokenizer=letters_tokenizer(tmp_path / "tokenizer", **SIZES))
    module = clip.module
    assert (module.image_heads, module.text_heads, module.activation) == (2, 1, "quick_gelu")
    assert (module.image_size, module.patch_size, module.context_length, module.vocab_size) == (32, 8, 12, 64)
    kernel = clip.params["image"]["transformer"]["blocks"]["attention"]["qkv"]["kernel"]
    rows = arrays["visual.transformer.resblocks.0.attn.in_proj_weight"]
    # Layer 0, input 5, the value (part 2), head 1, channel 7: row 2 * 128 + 64 + 7.
    assert kernel[0, 5, 2, 1, 7] == rows[2 * 128 + 64 + 7, 5] and kernel.dtype == np.float32


def test_file_without_tokenizer_or_config_is_rejected(tmp_path):
    arrays = openai_arrays()
    path = write_openai(tmp_path / "ViT.pt", arrays | BUFFERS)
    with pytest.raises(ValueError, match=r"\(CLIP in OpenAI's layout\) includes no tokenizer. .* --tokenizer openai/"):
        unclip_jax.load_clip(path)
    with pytest.raises(ValueError, match="tokenizer of clip of .* must have context_length 12, got 10"):
        unclip_jax.load_clip(path, tokenizer=letters_tokenizer(tmp_path / "short", vocab_size=64, context_length=10))
    with pytest.raises(ValueError, match="tokenizer of clip of .* must have vocab_size 64, got 60"):
        unclip_jax.load_clip(path, tokenizer=letters_tokenizer(tmp_path / "few", vocab_size=60, context_length=12))
    bare = tmp_path / "model.safetensors"
    safetensors_numpy.save_file(arrays, bare)
    with pytest.raises(ValueError, match="do not determine the number of heads and the activation. Pass the folder"):
        unclip_jax.load_clip(bare)
    safetensors_numpy.save_file({"a": np.zeros(2)}, bare)
    with pytest.raises(ValueError, match=r"nor a known published model. Known: Karlo \(model_index.json .*CLIP \("):
        unclip_jax.load_clip(bare)


def test_import_keeps_values_and_types(tmp_path, capsys, hugging_face):
    golden, folder = hugging_face
    path = write_openai(tmp_path / "ViT.pt", openai_arrays() | BUFFERS)
    letters_tokenizer(tmp_path, **SIZES)
    for source, name, dtype in ((folder, "hugging_face", np.float32), (path, "openai", np.float16)):
        out = tmp_path / "out" / name
        assert main(["import-weights", str(source), "--out", str(out)]) == 0
        stored = open_tensors(out / "clip" / "params.safetensors")
        assert {tensor.dtype for tensor in stored.values()} == {np.dtype(dtype)}
        before, after = unclip_jax.load_clip(source), unclip_jax.load_clip(out)
        assert parameters.digest(before.params) == parameters.digest(after.params)
        assert before.module == after.module
    assert "CLIP in OpenAI's layout" in capsys.readouterr().out
    check_outputs(unclip_jax.load_clip(tmp_path / "out" / "hugging_face"), golden)
    assert sorted(path.name for path in (tmp_path / "out/hugging_face/clip/tokenizer").iterdir()) == [
        "merges.txt", "tokenizer_config.json", "vocab.json"
    ]  # fmt: skip


def test_failed_import_writes_nothing(tmp_path, capsys, hugging_face):
    _, folder = hugging_face
    arrays = safetensors_numpy.load_file(folder / "model.safetensors")
    del arrays["logit_scale"]
    safetensors_numpy.save_file(arrays, folder / "model.safetensors")
    out = tmp_path / "out"
    assert main(["import-weights", str(folder), "--out", str(out)]) == 2
    assert "Missing: logit_scale." in capsys.readouterr().err and not out.exists()
    out.mkdir()
    (out / "mine").write_text("")
    assert main(["import-weights", str(folder), "--out", str(out)]) == 2
    assert "--out must be a new folder, got" in capsys.readouterr().err
    assert main(["import-weights", str(tmp_path / "no/where"), "--out", str(tmp_path / "new")]) == 2
    assert "does not exist. Pass a file, a folder, or the id of a Hugging Face repository" in capsys.readouterr().err


def test_clip_without_image_encoder_encodes_text_and_rejects_images(hugging_face):
    from unclip_jax.models.clip import CLIP
    from unclip_jax.models.network import parameter_shapes

    golden, folder = hugging_face
    clip = unclip_jax.load_clip(folder)
    names = ("image_size", "patch_size", "image_width", "image_layers", "image_heads")
    text_only = clip.module.clone(**dict.fromkeys(names))
    params = {"text": clip.params["text"]}
    parameters.check(parameters.flatten(params), parameter_shapes(text_only), "text encoder")
    text = text_only.apply({"params": params}, golden["tokens"], method="encode_text")
    np.testing.assert_allclose(text.pooled, golden["pooled"], atol=1e-5)
    with pytest.raises(ValueError, match="has no image encoder"):
        text_only.apply({"params": params}, golden["pixels"], method=CLIP.encode_image)


def test_select_files_returns_one_format_per_folder():
    openai = [
        "config.json", "flax_model.msgpack", "merges.txt", "model.safetensors", "pytorch_model.bin", "tf_model.h5",
        "tokenizer.json", "vocab.json", "README.md",
    ]  # fmt: skip
    assert hub.select_files(openai) == [
        "config.json",
        "merges.txt",
        "model.safetensors",
        "tokenizer.json",
        "vocab.json",
    ]
    laion = ["open_clip_config.json", "open_clip_model.safetensors", "model.safetensors", "open_clip_pytorch_model.bin"]
    assert hub.select_files(laion) == ["open_clip_config.json", "open_clip_model.safetensors"]
    karlo = ["model_index.json", "prior/config.json", "prior/diffusion_pytorch_model.bin", "decoder/a.fp16.safetensors",
             "decoder/a.safetensors", "decoder/a.bin"]  # fmt: skip
    assert hub.select_files(karlo) == [
        "decoder/a.safetensors", "model_index.json", "prior/config.json", "prior/diffusion_pytorch_model.bin"
    ]  # fmt: skip


def test_unreachable_hub_is_reported():
    with pytest.raises(ValueError, match=r"'no/where' is not a local path, and the hub cannot be reached \("):
        unclip_jax.load_clip("no/where")


def test_cached_repository_is_used_when_hub_is_unreachable(tmp_path, monkeypatch, hugging_face):
    import huggingface_hub

    golden, folder = hugging_face
    # Layout of the cache: a reference to a commit, and the files of the commit.
    cache = tmp_path / "hub" / "models--some--clip"
    (cache / "refs").mkdir(parents=True)
    (cache / "refs" / "main").write_text("a" * 40)
    (cache / "snapshots").mkdir()
    folder.rename(cache / "snapshots" / ("a" * 40))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    check_outputs(unclip_jax.load_clip("some/clip"), golden)
