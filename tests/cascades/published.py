"""Shared by the tests of published models: golden files, published folders with random weights, and recorded noise."""

import json
import pathlib
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import numpy as safetensors_numpy

import unclip_jax
from tests.golden.drawn import drawn, letters_tokenizer, noise

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"


def load(name):
    """Returns the arrays and the description of a golden file."""
    golden = np.load(GOLDEN / f"{name}.npz")
    return golden, json.loads(str(golden["about"]))


def write_pipeline(folder, about):
    """Writes a folder like `save_pretrained` of diffusers' unCLIP pipelines, with random weights."""
    for name, config in about["configs"].items():
        (folder / name).mkdir()
        file = "scheduler_config.json" if name.endswith("scheduler") else "config.json"
        (folder / name / file).write_text(json.dumps(config))
    for part in {name.split(".")[0] for name in about["shapes"]}:
        arrays = {
            name.removeprefix(f"{part}."): drawn(name, tuple(shape))
            for name, shape in about["shapes"].items()
            if name.startswith(f"{part}.")
        }
        safetensors_numpy.save_file(arrays, folder / part / "diffusion_pytorch_model.safetensors")
    letters_tokenizer(folder / "tokenizer", vocab_size=64, context_length=12)
    (folder / "model_index.json").write_text(json.dumps({"_class_name": about["peer"].split()[-1]}))
    return folder


def open_on_one_device(source, **arguments):
    return unclip_jax.load_cascade(source, devices=jax.local_devices()[:1], dtype="float32", **arguments)


def row_noise_of(rows: int, stages: Mapping[str, tuple[tuple[int, ...], int]]) -> Callable:
    """Returns a replacement for `sampling.diffusion.row_noise` that returns the noise of the golden files.

    Args:
      rows: Number of rows.
      stages: Shape of a row and number of draws of each stage. Stages are identified by the shape of their rows.
    """
    tables = {
        shape: jnp.stack([noise(stage, draw, (rows, *shape)) for draw in range(draws)])
        for stage, (shape, draws) in stages.items()
    }
    return lambda keys, shape: lambda draw, t, t_next: tables[shape][draw]
