"""Files that `unclip generate` enters for a prompt, in order. `pytest -s` prints them."""

import pytest

from tests.cascades.tiny import write_tiny_cascade
from tests.walk import floor_of, walk

# The main path: the command, the plan, the conditions, one stage, and the image.
STOPS = [
    "commands/generate", "cascades/loading", "cascades/text_to_image", "cascades/generate", "cascades/encode",
    "kinds/diffusion_prior", "sampling/diffusion", "sampling/rows", "diffusion/samplers/table",
    "diffusion/samplers/sampler", "diffusion/samplers/ddpm", "diffusion/samplers/ddim", "models/diffusion_prior",
    "cascades/candidates", "images",
]  # fmt: skip
# The decoder and the upsamplers follow the same path, with their own kinds and networks.
OTHER_STAGES = ["kinds/decoder", "models/decoder", "kinds/upsampler", "models/upsampler"]
# All other files on floor 4 and above, with their purpose on this path.
HELPERS = {
    "__main__": "dispatches to the command",
    "__init__": "imports a public name",
    "commands/image_options": "flags and output files that several commands share",
    "commands/terminal": "progress bars and warnings",
    "commands/compilation_cache": "folder of compiled programs",
    "cascades/sources": "recognizes names of bundled cascades",
    "cascades/priors": "chooses the prior",
    "cascades/folder": "reads the stages of a folder",
    "cascades/cascade": "the stages and their outputs",
    "cascades/plan": "the validated call that text_to_image returns",
    "cascades/image_stages": "chooses and orders the image stages",
    "cascades/stage_settings": "sampler settings of the plan",
    "kinds/__init__": "the table of kinds",
    "kinds/kind": "builds and samples a stage according to its kind",
    "kinds/clip": "the encoder of the prompt",
    "sampling/encode": "batches of encoders",
    "sampling/denoising": "calls of a network",
    "sampling/pieces": "splits the path where guidance or parameters change",
    "sampling/transforms": "applies denoiser transforms",
}


@pytest.fixture(scope="module")
def files(tmp_path_factory, one_device):
    tmp_path = tmp_path_factory.mktemp("walk")
    folder = write_tiny_cascade(tmp_path / "cascade")
    return walk(["generate", "a red circle", "--cascade", str(folder), "--out", str(tmp_path / "made.png")])


def test_generate_enters_all_files_of_main_path(files):
    assert [stop for stop in (*STOPS, *OTHER_STAGES) if stop not in files] == []


def test_generate_enters_only_listed_helpers_on_upper_floors(files):
    upper = {file for file in files if floor_of(file) >= 4}
    assert upper - {*STOPS, *OTHER_STAGES} == set(HELPERS)


def test_generate_loads_plans_and_samples_in_order(files):
    stops = ["commands/generate", "cascades/loading", "cascades/text_to_image", "cascades/generate", "cascades/encode"]
    positions = [files.index(stop) for stop in [*stops, "sampling/diffusion", "cascades/candidates"]]
    assert positions == sorted(positions)
