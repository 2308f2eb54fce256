"""Recognition of published weights: the family that opens a source, and the files that are read."""

import json

import huggingface_hub
import numpy as np
import pytest
from safetensors import numpy as safetensors_numpy

from unclip_jax.pretrained import registry, tensor_files
from unclip_jax.pretrained.family import Source, WeightFamily
from unclip_jax.pretrained.registry import FAMILIES


def write_tensors(path, *names):
    safetensors_numpy.save_file(dict.fromkeys(names, np.zeros((8, 5, 3, 3), np.float32)), path)
    return path


@pytest.fixture
def opened(monkeypatch):
    """Returns a list of the names of opened files. Reading data opens a file again."""
    names, safe_open = [], tensor_files.safe_open

    def open_once(path, framework):
        names.append(path.name)
        return safe_open(path, framework)

    monkeypatch.setattr(tensor_files, "safe_open", open_once)
    return names


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (("input_blocks.0.0.weight", "transformer_proj.weight"), "must have one of 3, 7, 6, 10 input channels"),
        (("input_blocks.0.0.weight", "time_embed.0.weight"), "contains a network of guided-diffusion"),
        (("visual.conv1.weight",), "contains the tensors of an OpenCLIP model"),
        (("a",), "nor a known published model"),
    ],
)
def test_file_is_opened_once(tmp_path, opened, tensors, message):
    with pytest.raises(ValueError, match=message):
        registry.recognize(write_tensors(tmp_path / "model.pt", *tensors))
    assert opened == ["model.pt"]


def test_missing_tensor_is_reported_with_its_family(tmp_path):
    path = write_tensors(tmp_path / "64x64_diffusion.pt", "input_blocks.0.0.weight", "time_embed.0.weight")
    missing = "output_blocks.0.0.in_layers.0.weight"
    with pytest.raises(ValueError, match=rf"64x64_diffusion.pt' lacks '{missing}', which every guided-diffusion model"):
        registry.recognize(path)


def test_first_matching_family_opens_the_folder(tmp_path):
    """Adds files of more and more families to a folder, from the last family to the first."""
    files = [
        ("config.json", "CLIP", '{"model_type": "clip"}'),
        ("64x64_diffusion.pt", "guided-diffusion", ""),
        ("upsample_inpaint.pt", "GLIDE", ""),
        ("decoder-ckpt-1.ckpt", "Karlo", ""),
    ]
    for name, family, content in files:
        (tmp_path / name).write_text(content)
        matching = [other.name for other in FAMILIES.entries() if other.matches(Source(tmp_path))]
        assert matching[0] == family


def test_json_files_of_other_models_match_no_family(tmp_path):
    for name, content in (("config.json", {"model_type": "bert"}), ("model_index.json", {"_class_name": "Other"})):
        (tmp_path / name).write_text(json.dumps(content))
    assert not [family.name for family in FAMILIES.entries() if family.matches(Source(tmp_path))]


def test_family_that_cannot_examine_a_source_is_named(tmp_path, monkeypatch):
    def matches(source):
        raise KeyError("secret")

    broken = WeightFamily(name="broken", description="", matches=matches, open=None)
    monkeypatch.setattr(FAMILIES, "_entries", {**FAMILIES._entries, "broken": broken})
    path = write_tensors(tmp_path / "model.pt", "a")
    message = r"^weight family 'broken' cannot examine '.*model.pt' \(KeyError: 'secret'\).$"
    with pytest.raises(ValueError, match=message):
        registry.recognize(path)


def test_files_of_a_family_are_downloaded_from_the_hub(tmp_path, monkeypatch):
    requested = []

    def snapshot_download(repository, allow_patterns):
        requested.append((repository, allow_patterns))
        return tmp_path

    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", lambda self, repository: ["config.json", "a.npz"])
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    family = WeightFamily(name="NumPy", description="", files=("*.npz",), matches=lambda source: False, open=None)
    monkeypatch.setattr(FAMILIES, "_entries", {**FAMILIES._entries, "NumPy": family})
    with pytest.raises(ValueError, match="nor a known published model"):
        registry.recognize("some/repository")
    assert requested == [("some/repository", ["config.json", "*.npz"])]
