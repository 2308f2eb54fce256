"""Weight families of other packages, which work without changes to this one."""

import dataclasses
import pathlib
import re
import shutil
import sys

import numpy as np
import pytest
from safetensors import numpy as safetensors_numpy

import unclip_jax
from tests.distributions import write_distribution
from tests.outside import npz_family
from tests.outside.helpers import only_line
from tests.randomised import randomise
from unclip_jax import images, parameters
from unclip_jax.__main__ import main
from unclip_jax.cascades.class_to_image import class_to_image
from unclip_jax.models.network import parameter_shapes
from unclip_jax.models.unet import UNet
from unclip_jax.pretrained.registry import FAMILIES, recognize

pytestmark = pytest.mark.usefixtures("one_device", "tables")

COLOR = np.float32([-0.6, 0.2, 1.0])
UINT8 = [51, 153, 255]  # (COLOR + 1) / 2 * 255


@pytest.fixture
def model(tmp_path):
    """Returns a file of the family and its parameters. The last kernel is 0, so the predicted x0 is the last bias."""
    params = randomise(parameter_shapes(UNet(**npz_family.FIELDS)))
    params["conv_out"] = {"kernel": np.zeros_like(params["conv_out"]["kernel"]), "bias": COLOR}
    axes = {1: (0,), 2: (1, 0), 4: (3, 2, 0, 1)}
    flat = parameters.flatten(params)
    np.savez(tmp_path / "model.npz", **{name.replace("/", "."): x.transpose(axes[x.ndim]) for name, x in flat.items()})
    return tmp_path / "model.npz", params


def check_model(source, params):
    """Checks that a source has the given parameters, and that its images have the color of the bias."""
    cascade = unclip_jax.load_cascade(source)
    assert parameters.digest(cascade.stages["base"].params) == parameters.digest(params)
    np.testing.assert_array_equal(class_to_image(cascade), np.broadcast_to(UINT8, (1, 8, 8, 3)))


def test_registered_family_is_loaded_imported_and_sampled(model, tmp_path, capsys):
    source, params = model
    with pytest.raises(ValueError, match="is not a readable PyTorch file"):
        unclip_jax.load_cascade(source)
    FAMILIES.register("NumPy", npz_family.FAMILY)
    check_model(source, params)
    out, image = tmp_path / "imported", tmp_path / "image.png"
    assert main(["import-weights", str(source), "--out", str(out)]) == 0
    assert f"{source}: U-Net of NumPy\nbase: in {out}\n" in capsys.readouterr().out
    check_model(out, params)
    for cascade in (source, out):
        assert main(["generate", "--cascade", str(cascade), "--out", str(image)]) == 0
        np.testing.assert_array_equal(images.read_image(image), np.broadcast_to(UINT8, (8, 8, 3)))


def install(site: pathlib.Path, *entry_points: str) -> None:
    """Installs the distribution outside-npz. Its module npz_broken creates a file when it is imported."""
    broken = f"open({str(site / 'marker')!r}, 'w').close()\nraise RuntimeError('no\\nmemory')\n"
    groups = {"unclip_jax.weight_families": entry_points}
    write_distribution(site, "outside-npz", groups, copied=[npz_family.__file__], npz_broken=broken)


@pytest.fixture
def site(tmp_path, monkeypatch):
    """Returns a folder on sys.path."""
    monkeypatch.syspath_prepend(tmp_path / "site")
    yield tmp_path / "site"
    sys.modules.pop("npz_family", None)


def test_family_of_entry_point_is_loaded_imported_and_sampled(model, tmp_path, site, capsys):
    source, params = model
    install(site, "broken = npz_broken:FAMILY", "npz = npz_family:FAMILY")
    check_model(source, params)
    out = tmp_path / "imported"
    assert main(["import-weights", str(source), "--out", str(out)]) == 0
    check_model(out, params)
    assert FAMILIES.choose("NumPy") is sys.modules["npz_family"].FAMILY
    (tmp_path / "text.txt").write_text("no weights")
    failure = "Entry point 'broken' of outside-npz failed to load: RuntimeError: no memory."
    for unknown, message in (
        (tmp_path, f"nor a known published model. Known: .*, NumPy (a .npz file). {failure}\n"),
        (tmp_path / "text.txt", f"is not a supported weights file. .* {failure}\n"),
    ):
        capsys.readouterr()
        assert main(["import-weights", str(unknown), "--out", str(tmp_path / "new")]) == 2
        assert re.search(message.replace("(", r"\(").replace(")", r"\)"), only_line(capsys))


def test_builtin_families_come_first(tmp_path, site):
    install(site, "a_glide = npz_family:GLIDE", "broken = npz_broken:FAMILY")
    with (site / "npz_family.py").open("a") as file:
        file.write("\nimport dataclasses\nGLIDE = dataclasses.replace(FAMILY, name='GLIDE')\n")
    sources = []
    everything = dataclasses.replace(
        npz_family.FAMILY, name="everything", matches=lambda source: sources.append(source)
    )
    FAMILIES.register("everything", everything)
    tensors = {"transformer_proj.weight": (8, 8), "input_blocks.0.0.weight": (8, 5, 3, 3)}
    path = tmp_path / "base.pt"
    safetensors_numpy.save_file({name: np.zeros(shape, np.float32) for name, shape in tensors.items()}, path)
    with pytest.raises(ValueError, match="must have one of 3, 7, 6, 10 input channels, as in GLIDE, got 5"):
        recognize(path)
    assert sources == [] and not (site / "marker").exists()
    builtin = FAMILIES.choose("GLIDE")
    with pytest.raises(ValueError, match="Entry point 'a_glide' of outside-npz failed to load: .* already registered"):
        recognize(site)
    assert len(sources) == 1 and (site / "marker").exists() and FAMILIES.choose("GLIDE") is builtin


def test_family_receives_the_clip_of_another_source(model, tmp_path):
    source, _ = model
    other = pathlib.Path(shutil.copy(source, tmp_path / "other.npz"))

    def open_both(opened):
        published = npz_family.open_model(opened)
        return dataclasses.replace(published, stages=[*opened.clip.stages, *published.stages])

    FAMILIES.register("NumPy", npz_family.FAMILY)
    with pytest.raises(ValueError, match=rf"\(U-Net of NumPy\) does not use another CLIP model. Omit '{other}'"):
        recognize(source, clip=other)
    (tmp_path / "both").mkdir()
    both = shutil.copy(source, tmp_path / "both/model.both")
    family = dataclasses.replace(
        npz_family.FAMILY, name="both", matches=lambda source: source.path.suffix == ".both", open=open_both
    )
    FAMILIES.register("both", family)
    assert [stage.source for stage in recognize(both, clip=other).stages] == [str(other), str(both)]
