"""Files that `unclip train` enters for a decoder, in order. `pytest -s` prints them."""

import pytest
from PIL import Image

from tests.cascades.tiny import write_tiny_cascade
from tests.commands.test_package import CONFIGS, SHORT, TINY
from tests.walk import floor_of, walk

# The main path: the config, the kind, the inputs, one batch, the step, the task, the network and the loss.
STOPS = [
    "commands/train", "experiment/config", "kinds/decoder", "experiment/assemble", "data/sources", "data/pipeline",
    "data/rows", "training/loop", "training/compiled_functions", "tasks/decoder", "models/decoder", "diffusion/losses",
]  # fmt: skip
# All other files on floor 3 and above, with their purpose on this path.
HELPERS = {
    "__main__": "dispatches to the command",
    "commands/compilation_cache": "folder of compiled programs",
    "experiment/aliases": "deprecated names of config fields",
    "experiment/spec": "the typed config and checks across its sections",
    "experiment/train": "the function that the command calls",
    "experiment/encoders": "loads the frozen encoders",
    "cascades/embedding": "loads the CLIP that the config names",
    "cascades/loading": "loads its cascade",
    "cascades/sources": "recognizes names of bundled cascades",
    "cascades/folder": "reads the stages of a folder",
    "cascades/cascade": "the stages and their outputs",
    "cascades/priors": "chooses the prior to load",
    "kinds/__init__": "the table of kinds",
    "kinds/kind": "builds a network according to its kind",
    "tasks/denoising": "options and noise that diffusion tasks share",
    "training/spec": "the typed settings of a run",
    "training/workdir_lock": "one run per workdir",
    "training/resume": "finds the latest checkpoint",
    "training/checkpoint_record": "config and checksums of a checkpoint",
    "training/checkpoints": "saves the state",
    "training/optimizer": "AdamW and its learning rate",
    "training/state": "the state before the first step",
    "training/task": "random keys of a step",
    "training/accumulation": "micro-batches",
    "training/ema": "the moving average",
    "training/run_log": "metrics, bad steps and the progress bar",
    "training/metric_writer": "metrics.jsonl and TensorBoard",
    "training/loss_spikes": "detects loss spikes",
    "training/step_timer": "images per second",
    "training/interrupt": "Ctrl-C and SIGTERM",
    "stages/spec": "the typed spec of a stage",
    "data/spec": "the typed settings of the data",
    "data/source_type": "fields that a source provides",
    "data/image_folder": "the source of this test",
    "data/cached_source": "keeps records in memory",
    "data/records": "unreadable records",
    "data/transforms": "resizing and random generators of a row",
}


@pytest.fixture(scope="module")
def files(tmp_path_factory, one_device):
    """The files that training on a folder of images enters. Data is loaded in this process (0 workers)."""
    tmp_path = tmp_path_factory.mktemp("walk")
    folder = write_tiny_cascade(tmp_path / "cascade")
    for split in ("train", "test"):
        (tmp_path / "images" / split).mkdir(parents=True)
        for number in range(8):
            image = tmp_path / "images" / split / f"{number}.png"
            Image.new("RGB", (16, 16), (30 * number, 0, 0)).save(image)
            image.with_suffix(".txt").write_text("a red")
    fields = [
        *SHORT, *TINY["decoder"], f"encoders.clip={folder}", "data.source=folder", f"data.dir={tmp_path / 'images'}",
        "data.image_field=image", "data.image_size=16", "data.clip_size=16", "data.workers=0",
        "training.eval_every=0", "training.preview_every=0",
    ]  # fmt: skip
    overrides = [f"--config.{field}" for field in fields]
    return walk(["train", f"--config={CONFIGS / 'decoder.py'}", f"--workdir={tmp_path / 'run'}", *overrides])


def test_train_enters_all_files_of_main_path(files):
    assert [stop for stop in STOPS if stop not in files] == []


def test_train_enters_only_listed_helpers_on_upper_floors(files):
    upper = {file for file in files if floor_of(file) >= 3}
    assert upper - set(STOPS) == set(HELPERS)


def test_train_parses_assembles_and_trains_in_order(files):
    stops = ["commands/train", "experiment/config", "kinds/decoder", "experiment/assemble", "data/pipeline"]
    positions = [files.index(stop) for stop in [*stops, "training/compiled_functions", "models/decoder"]]
    assert positions == sorted(positions)
    assert files.index("models/decoder") < files.index("diffusion/losses")
