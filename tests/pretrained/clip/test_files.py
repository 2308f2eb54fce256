"""Published CLIPs as they lie on a disk, opened by the names that a user gives."""

import json

import numpy as np
import pytest
from safetensors import numpy as safetensors_numpy

import unclip_jax
from tests.golden.drawn import drawn, letters_tokenizer
from tests.pretrained import torch_writer
from tests.pretrained.clip.test_networks import answers
from tests.pretrained.peer_networks import TOLERANCE, load
from unclip_jax import parameters
from unclip_jax.__main__ import main
from unclip_jax.pretrained import hub
from unclip_jax.pretrained.tensor_files import open_tensors

SIZES = {"vocab_size": 64, "context_length": 12}  # of the tokenizer that goes with the golden CLIPs
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


def check_answers(clip, golden):
    found = answers(clip.module, clip.params, golden)
    for what in found.keys() & set(golden.files):
        assert np.max(np.abs(found[what] - golden[what])) <= TOLERANCE * np.max(np.abs(golden[what])), what


@pytest.fixture
def hugging_face(tmp_path):
    golden, config, arrays = load("clip-hugging-face-quick_gelu")
    return golden, write_hugging_face(tmp_path / "clip", arrays, config)


@pytest.fixture
def open_clip(tmp_path):
    golden, config, arrays = load("clip-open-clip")
    return golden, write_open_clip(tmp_path / "clip", arrays, config)


def test_a_hugging_face_folder_answers_as_its_origin(hugging_face):
    golden, folder = hugging_face
    clip = unclip_jax.load_clip(folder)
    check_answers(clip, golden)
    assert clip.tokenizer.encode(["a"])[0].tolist()[0] == 62


def test_weights_in_parts_and_of_another_type_are_found(hugging_face):
    golden, folder = hugging_face
    whole = safetensors_numpy.load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(whole)
    parts = {"a.bin": names[::2], "b.bin": names[1::2]}
    for part, held in parts.items():
        (folder / part).write_bytes(torch_writer.legacy(torch_writer.tensors({name: whole[name] for name in held})))
    where = {name: part for part, held in parts.items() for name in held}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": where}))
    check_answers(unclip_jax.load_clip(folder), golden)
    (folder / "b.bin").unlink()
    with pytest.raises(ValueError, match=r"pytorch_model.bin.index.json' names b.bin, which the folder lacks"):
        unclip_jax.load_clip(folder)


def test_numbers_that_are_computed_are_no_tensors_too_many(hugging_face):
    golden, folder = hugging_face
    whole = safetensors_numpy.load_file(folder / "model.safetensors")
    whole["text_model.embeddings.position_ids"] = np.arange(12)[None]
    safetensors_numpy.save_file(whole, folder / "model.safetensors")
    check_answers(unclip_jax.load_clip(folder), golden)
    whole["text_model.embeddings.strange"] = np.arange(12)
    safetensors_numpy.save_file(whole, folder / "model.safetensors")
    with pytest.raises(ValueError, match="left over: text_model.embeddings.strange"):
        unclip_jax.load_clip(folder)


def test_an_open_clip_folder_answers_as_its_origin(open_clip):
    golden, folder = open_clip
    check_answers(unclip_jax.load_clip(folder), golden)


@pytest.mark.parametrize(
    ("part", "key", "value", "said"),
    [
        ("vision_cfg", "timm_model_name", "vit", "vision_cfg has timm_model_name"),
        ("text_cfg", "hf_model_name", "roberta", "text_cfg has hf_model_name"),
        (None, "multimodal_cfg", {"width": 1}, "model_cfg has multimodal_cfg"),
    ],
)
def test_other_towers_than_clips_are_refused(open_clip, part, key, value, said):
    _, folder = open_clip
    config = json.loads((folder / "open_clip_config.json").read_text())
    (config["model_cfg"][part] if part else config["model_cfg"])[key] = value
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=said):
        unclip_jax.load_clip(folder)


def test_pictures_normalised_otherwise_are_refused(open_clip, hugging_face):
    for folder, name, content in (
        (open_clip[1], "open_clip_config.json", {"preprocess_cfg": {"mean": [0.5, 0.5, 0.5]}}),
        (hugging_face[1], "preprocessor_config.json", {"image_std": [0.5, 0.5, 0.5]}),
    ):
        before = json.loads((folder / name).read_text()) if (folder / name).exists() else {}
        (folder / name).write_text(json.dumps(before | content))
        with pytest.raises(ValueError, match=r"must be \[0\..*, got \[0.5, 0.5, 0.5\]"):
            unclip_jax.load_clip(folder)


def openai_arrays():
    """Of towers of OpenAI's make at a small size: heads of 64 channels, one in the text tower and two in the ViT."""
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
    """A module of modules, as TorchScript keeps them."""
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


def test_a_file_of_openais_is_a_clip_of_heads_of_64_and_quick_gelu(tmp_path):
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


def test_what_a_bare_file_does_not_say_is_asked_for(tmp_path):
    arrays = openai_arrays()
    path = write_openai(tmp_path / "ViT.pt", arrays | BUFFERS)
    with pytest.raises(ValueError, match=r"\(CLIP in OpenAI's layout\) includes no tokenizer. .* --tokenizer openai/"):
        unclip_jax.load_clip(path)
    with pytest.raises(ValueError, match="has context_length 10, and clip of .* has 12"):
        unclip_jax.load_clip(path, tokenizer=letters_tokenizer(tmp_path / "short", vocab_size=64, context_length=10))
    with pytest.raises(ValueError, match="has vocab_size 60, and clip of .* has 64"):
        unclip_jax.load_clip(path, tokenizer=letters_tokenizer(tmp_path / "few", vocab_size=60, context_length=12))
    bare = tmp_path / "model.safetensors"
    safetensors_numpy.save_file(arrays, bare)
    with pytest.raises(ValueError, match="which do not determine its heads and activation. Pass the folder with"):
        unclip_jax.load_clip(bare)
    safetensors_numpy.save_file({"a": np.zeros(2)}, bare)
    with pytest.raises(ValueError, match=r"nor a known published model. Known: Karlo \(model_index.json .*CLIP \("):
        unclip_jax.load_clip(bare)


def test_an_import_keeps_every_number_and_type(tmp_path, capsys, hugging_face):
    golden, folder = hugging_face
    path = write_openai(tmp_path / "ViT.pt", openai_arrays() | BUFFERS)
    letters_tokenizer(tmp_path, **SIZES)
    for source, name, dtype in ((folder, "theirs", np.float32), (path, "openais", np.float16)):
        out = tmp_path / "out" / name
        assert main(["import-weights", str(source), "--out", str(out)]) == 0
        stored = open_tensors(out / "clip" / "params.safetensors")
        assert {tensor.dtype for tensor in stored.values()} == {np.dtype(dtype)}
        before, after = unclip_jax.load_clip(source), unclip_jax.load_clip(out)
        assert parameters.digest(before.params) == parameters.digest(after.params)
        assert before.module == after.module
    assert "CLIP in OpenAI's layout" in capsys.readouterr().out
    check_answers(unclip_jax.load_clip(tmp_path / "out" / "theirs"), golden)
    assert sorted(path.name for path in (tmp_path / "out/theirs/clip/tokenizer").iterdir()) == [
        "merges.txt", "tokenizer_config.json", "vocab.json"
    ]  # fmt: skip


def test_an_import_that_cannot_be_writes_nothing(tmp_path, capsys, hugging_face):
    _, folder = hugging_face
    whole = safetensors_numpy.load_file(folder / "model.safetensors")
    del whole["logit_scale"]
    safetensors_numpy.save_file(whole, folder / "model.safetensors")
    out = tmp_path / "out"
    assert main(["import-weights", str(folder), "--out", str(out)]) == 2
    assert "missing: logit_scale" in capsys.readouterr().err and not out.exists()
    out.mkdir()
    (out / "mine").write_text("")
    assert main(["import-weights", str(folder), "--out", str(out)]) == 2
    assert "--out must be a new folder, got" in capsys.readouterr().err
    assert main(["import-weights", str(tmp_path / "no/where"), "--out", str(tmp_path / "new")]) == 2
    assert "does not exist. Pass a file, a folder, or the id of a Hugging Face repository" in capsys.readouterr().err


def test_a_text_tower_alone_embeds_captions_and_says_that_it_embeds_no_pictures(hugging_face):
    from unclip_jax.models.clip import CLIP
    from unclip_jax.models.network import parameter_shapes

    golden, folder = hugging_face
    clip = unclip_jax.load_clip(folder)
    names = ("image_size", "patch_size", "image_width", "image_layers", "image_heads")
    alone = clip.module.clone(**dict.fromkeys(names))
    params = {"text": clip.params["text"]}
    parameters.check(parameters.flatten(params), parameter_shapes(alone), "the text tower")
    text = alone.apply({"params": params}, golden["tokens"], method="encode_text")
    np.testing.assert_allclose(text.pooled, golden["pooled"], atol=1e-5)
    with pytest.raises(ValueError, match="has a text tower alone and embeds no pictures"):
        alone.apply({"params": params}, golden["pixels"], method=CLIP.encode_image)


def test_of_a_repository_one_format_of_each_network_is_wanted():
    openai = [
        "config.json", "flax_model.msgpack", "merges.txt", "model.safetensors", "pytorch_model.bin", "tf_model.h5",
        "tokenizer.json", "vocab.json", "README.md",
    ]  # fmt: skip
    assert hub.wanted(openai) == ["config.json", "merges.txt", "model.safetensors", "tokenizer.json", "vocab.json"]
    laion = ["open_clip_config.json", "open_clip_model.safetensors", "model.safetensors", "open_clip_pytorch_model.bin"]
    assert hub.wanted(laion) == ["open_clip_config.json", "open_clip_model.safetensors"]
    karlo = ["model_index.json", "prior/config.json", "prior/diffusion_pytorch_model.bin", "decoder/a.fp16.safetensors",
             "decoder/a.safetensors", "decoder/a.bin"]  # fmt: skip
    assert hub.wanted(karlo) == [
        "decoder/a.safetensors", "model_index.json", "prior/config.json", "prior/diffusion_pytorch_model.bin"
    ]  # fmt: skip


def test_a_hub_that_cannot_be_reached_is_one_line():
    with pytest.raises(ValueError, match=r"'no/where' is no folder here, and the hub, .*, cannot be reached \("):
        unclip_jax.load_clip("no/where")


def test_what_the_hub_fetched_before_is_used_without_it(tmp_path, monkeypatch, hugging_face):
    import huggingface_hub

    golden, folder = hugging_face
    # The cache's own layout: a reference to a commit, and the commit's files.
    cache = tmp_path / "hub" / "models--some--clip"
    (cache / "refs").mkdir(parents=True)
    (cache / "refs" / "main").write_text("a" * 40)
    (cache / "snapshots").mkdir()
    folder.rename(cache / "snapshots" / ("a" * 40))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    check_answers(unclip_jax.load_clip("some/clip"), golden)
