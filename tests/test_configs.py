"""Config files: omitted fields have defaults or are reported, and every task initializes."""

import copy
import dataclasses
import pathlib

import jax
import numpy as np
import pytest

from tests.cascades.tiny import write_tiny_cascade
from unclip_jax import experiment, parameters
from unclip_jax.data.rows import batch_fields
from unclip_jax.data.spec import BlurSpec, DataSpec
from unclip_jax.diffusion.settings import SamplingSettings
from unclip_jax.diffusion.spec import DiffusionSpec
from unclip_jax.experiment.config import typed
from unclip_jax.experiment.encoders import check_widths, load_encoders
from unclip_jax.experiment.spec import ExperimentConfig
from unclip_jax.kinds.kind import TaskParts
from unclip_jax.models.network import default_fields, parameter_shapes
from unclip_jax.training.spec import MeshSpec, OptimizerSpec, TrainingSpec

FOLDER = pathlib.Path(__file__).parents[1] / "configs"
FILES = sorted((FOLDER / "shapes").glob("*.py"))
FINE_TUNED = ("decoder", "upsampler_8_to_16")
NAMES = [*(path.stem for path in FILES), *(f"fine_tune:{stage}" for stage in FINE_TUNED)]


@pytest.fixture(scope="module")
def configs(tmp_path_factory) -> dict[str, ExperimentConfig]:
    cascade = write_tiny_cascade(tmp_path_factory.mktemp("configs") / "tiny")
    paths = {path.stem: path for path in FILES}
    paths |= {f"fine_tune:{stage}": f"{FOLDER / 'fine_tune.py'}:{cascade / stage}" for stage in FINE_TUNED}
    return {name: typed(experiment.load_config(path)) for name, path in paths.items()}


def leaves(tree: dict, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Returns the paths of all fields, including those of nested sections."""
    found = []
    for name, value in tree.items():
        found += [(*path, name), *(leaves(value, (*path, name)) if isinstance(value, dict) else ())]
    return found


def defaults(config: ExperimentConfig) -> dict:
    """Returns the documented defaults of every section."""
    classes = {
        "diffusion": DiffusionSpec,
        "sampling": SamplingSettings,
        "data": DataSpec,
        "optimizer": OptimizerSpec,
        "training": TrainingSpec,
        "mesh": MeshSpec,
    }
    found = {name: dataclasses.asdict(cls()) for name, cls in classes.items()}
    found["sampling"]["steps"] = 250  # all noise schedules here are longer
    if not config.stage_kind.is_sampled:
        found["diffusion"] = found["sampling"] = {}
    inputs = {"low_res_size": config.data.low_res_size, "mask_channels": False}
    found["task"] = {**inputs, **dataclasses.asdict(config.stage_kind.options())}
    found["model"] = default_fields(config.stage_kind.network)
    return found


def test_all_config_files_are_tested():
    assert {path.stem for path in FOLDER.rglob("*.py")} == {path.stem for path in FILES} | {"fine_tune"}


@pytest.mark.parametrize("name", NAMES)
def test_omitted_field_has_default_or_is_named_in_one_line(configs, name):
    config, named = configs[name], []
    documented = defaults(config)
    for path in leaves(config.sections()):
        *above, field = path
        sections = copy.deepcopy(config.sections())
        node = sections
        for part in above:
            node = node[part]
        del node[field]
        try:
            found = typed(sections).sections()
        except ValueError as error:
            assert field in str(error) and "\n" not in str(error), path
            named.append(path)
            continue
        if len(path) == 1:  # a whole section, whose fields all have defaults
            assert found[field] == documented.get(field, {}), path
        elif path[:2] == ("data", "blur") and len(path) == 3:
            assert found["data"]["blur"][field] == BlurSpec.__dataclass_fields__[field].default, path
        else:
            assert found[path[0]][field] == documented[path[0]][field], path
    assert {("task", "kind"), ("task", "stage")} <= set(named)


@pytest.mark.parametrize("name", NAMES)
def test_unknown_field_is_rejected(configs, name):
    sections = configs[name].sections()
    for section in [name for name in sections if isinstance(sections[name], dict)]:
        invalid = {**sections, section: {**sections[section], "undeclared": 1}}
        with pytest.raises(ValueError, match=f"config.{section}.*undeclared") as error:
            typed(invalid)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", NAMES)
def test_config_round_trips_through_json(configs, name):
    assert typed(configs[name].to_json()) == configs[name]


def rows(config: ExperimentConfig, context_length: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns the shapes of one row of a batch."""
    data = config.data
    shapes = {
        "image": (data.crop_size, data.crop_size, 3),
        "clip_image": (data.clip_size, data.clip_size, 3),
        "low_res": (data.crop_size // (data.low_res_factor or 1),) * 2 + (3,),
        "tokens": (context_length,),
        "wrong_tokens": (context_length,),
        "moments": (5,),
    }
    types = {"low_res": np.float32, "moments": np.float32, "image": np.uint8, "clip_image": np.uint8}
    found = {
        field: jax.ShapeDtypeStruct((1, *shapes[field]), types.get(field, np.int32)) for field in batch_fields(data)
    }
    return found | {"row": jax.ShapeDtypeStruct((1,), np.int32)}


@pytest.mark.parametrize("name", NAMES)
def test_config_task_initializes_network_of_its_stage(configs, name):
    config = configs[name]
    module, encoders = config.build(np.float32), load_encoders(config)
    check_widths(config, module, encoders)
    task = config.stage_kind.make_task(TaskParts(config.stage, module, config.options, encoders, config.training))
    networks = [module, *(encoder.module for encoder in encoders.values())]
    context = next((network.context_length for network in networks if hasattr(network, "context_length")), 0)
    params = jax.eval_shape(task.init, jax.random.key(0), rows(config, context))
    own = {name: tree for name, tree in params.items() if name not in config.stage_kind.auxiliary}
    parameters.check(parameters.flatten(own), parameter_shapes(module), f"parameters of {name}")
    auxiliary = config.stage_kind.auxiliary if "moments" in batch_fields(config.data) else ()
    assert set(params) - set(own) == set(auxiliary)
