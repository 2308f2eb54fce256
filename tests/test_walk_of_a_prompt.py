"""The walk of a prompt: the files that `unclip generate` enters, in order. `pytest -s` prints them."""

import pytest

from tests.cascades.tiny import write_tiny_cascade
from tests.walk import floor_of, walk

# What a reader follows: the command, the plan, the conditions, one stage, and the image.
STOPS = [
    "commands/generate", "cascades/loading", "cascades/text_to_image", "cascades/generate", "cascades/encode",
    "kinds/diffusion_prior", "sampling/diffusion", "sampling/rows", "diffusion/samplers/table",
    "diffusion/samplers/sampler", "diffusion/samplers/ddpm", "diffusion/samplers/ddim", "models/diffusion_prior",
    "cascades/candidates", "images",
]  # fmt: skip
# The decoder and the upsamplers take the same way through files of their own.
OTHER_STAGES = ["kinds/decoder", "models/decoder", "kinds/upsampler", "models/upsampler"]
# Every other file on floor 4 and above, with what it is entered for.
HELPERS = {
    "__main__": "finds the command",
    "__init__": "finds a public name",
    "commands/pictures": "flags and files that several commands share",
    "commands/terminal": "progress bars and warnings",
    "commands/compilation_cache": "where compiled programs are kept",
    "cascades/sources": "whether a name is that of a bundled cascade",
    "cascades/priors": "which prior is loaded and runs",
    "cascades/folder": "reads the stages of a folder",
    "cascades/cascade": "the stages and what they produce",
    "cascades/plan": "the checked call that text_to_image returns",
    "cascades/image_stages": "which stages make the image, in order",
    "cascades/stage_settings": "sampler settings of the plan",
    "kinds/__init__": "the table of kinds",
    "kinds/kind": "builds and samples a stage by its kind",
    "kinds/clip": "the encoder of the prompt",
    "sampling/encode": "batches of encoders",
    "sampling/denoising": "how a kind calls its network",
    "sampling/pieces": "cuts the path where guidance or parameters change",
    "sampling/transforms": "applies the transforms of a call",
}


@pytest.fixture(scope="module")
def files(tmp_path_factory, one_device):
    tmp_path = tmp_path_factory.mktemp("walk")
    folder = write_tiny_cascade(tmp_path / "cascade")
    return walk(["generate", "a red circle", "--cascade", str(folder), "--out", str(tmp_path / "made.png")])


def test_a_prompt_passes_every_stop(files):
    assert [stop for stop in (*STOPS, *OTHER_STAGES) if stop not in files] == []


def test_the_other_files_on_upper_floors_are_known_helpers(files):
    upper = {file for file in files if floor_of(file) >= 4}
    assert upper - {*STOPS, *OTHER_STAGES} == set(HELPERS)


def test_the_command_loads_plans_and_generates_in_this_order(files):
    stops = ["commands/generate", "cascades/loading", "cascades/text_to_image", "cascades/generate", "cascades/encode"]
    places = [files.index(stop) for stop in [*stops, "sampling/diffusion", "cascades/candidates"]]
    assert places == sorted(places)
