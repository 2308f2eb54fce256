"""Guide stages defined in another package."""

import numpy as np
import pytest

import unclip_jax
from tests.outside import color_guide
from tests.outside.helpers import only_line
from tests.sampling import line
from tests.sampling.example_transforms import fill
from unclip_jax import kinds
from unclip_jax.__main__ import main
from unclip_jax.cascades.folder_writing import StageFiles, write_stages
from unclip_jax.cascades.text_to_image import text_to_image
from unclip_jax.sampling.transforms import DenoiserTransform
from unclip_jax.stages.spec import from_json

pytestmark = pytest.mark.usefixtures("one_device", "tables")


@pytest.fixture
def guided(copy):
    kinds.register(color_guide.KIND)
    spec = from_json("color_guide", {"schema": 2, "kind": "color_guide", "model": {}}, where="color_guide")
    write_stages(copy, {"color_guide": StageFiles(spec, {"strength": np.ones(3, np.float32)})})
    return unclip_jax.load_cascade(copy)


# At timestep 0, DDIM moves x0 by PUSH times the gradient (ADM, arXiv 2105.05233, Algorithm 2).
PUSH = (1.0 - line.alpha_bar()[0]) / np.sqrt(line.alpha_bar()[0])


@pytest.mark.parametrize("candidates", [1, 2])
@pytest.mark.parametrize("moved", [0.4, -0.4])
def test_guide_moves_each_image_toward_its_prompt(guided, candidates, moved):
    """A transform makes every x0 gray after the guide, so that images differ by the gradient only."""
    gray = DenoiserTransform(fill, rows=np.zeros((6, 3), np.float32))
    decoder = {"sampler": "ddim", "guides": {"color_guide": moved / PUSH}, "candidates": candidates}
    made = text_to_image(
        guided, ["a red circle", "a ring", "a blue green ring"], count=2, sampling={"decoder": decoder},
        denoiser_transforms={"decoder": [gray]}, stop_after="decoder",
    )  # fmt: skip
    colors = np.repeat([[1, 0, 0], [0, 0, 0], [0, 1, 1]], 2, axis=0)
    expected = 127.5 * (1.0 + moved * colors)[:, None, None]
    np.testing.assert_allclose(made, np.broadcast_to(expected, made.shape), atol=1)


def test_guide_shifts_the_predicted_image(guided):
    """With a single step at t = 0, the guided x0 is the unguided x0 plus a constant."""
    decoder = {"sampler": "ddim", "steps": "ddim1"}
    unguided, toward = (
        text_to_image(guided, ["a red ring"], sampling={"decoder": decoder | guides}, stop_after="decoder").astype(int)
        for guides in ({}, {"guides": {"color_guide": 0.4 / PUSH}})
    )
    expected = np.minimum(unguided + 0.4 * 127.5 * np.array([1, 0, 0]), 255)
    np.testing.assert_allclose(toward, expected, atol=1)
    assert np.mean(expected[..., 0] < 255) > 0.2


def test_unknown_guide_error_is_one_line(guided, folder, tmp_path, capsys):
    for name in ("my_guide", "decoder"):
        with pytest.raises(
            ValueError, match=f"guides of decoder must name guides, got {name}. Available: color_guide.$"
        ):
            text_to_image(guided, ["a ring"], sampling={"decoder": {"guides": {name: 2.0}}})
    arguments = ["--cascade", str(folder), "--out", str(tmp_path / "made.png")]
    assert main(["generate", "a ring", *arguments, "--sampling", "decoder.guides={'color_guide': 2.0}"]) == 2
    assert "guides of decoder must name guides, got color_guide. Available: none." in only_line(capsys)
