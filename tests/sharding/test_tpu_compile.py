"""Ahead-of-time compilation of the training step of every task for TPUs, at reduced width.

libtpu provides the TPU compiler, and `jax.experimental.topologies` describes the chips. No TPU is needed. libtpu is
installed in a separate folder by `launch/test.sh --all`, because next to jax it would report a missing TPU at every
start.
"""

import dataclasses
import pathlib
import re
import sys

import jax
import jax.numpy as jnp
import pytest
from jax.experimental import topologies

from tests.tasks.tiny_tasks import batch, clip_task, decoder_task, frozen, prior_task, upsampler_task
from unclip_jax.sharding import rules
from unclip_jax.sharding.mesh import make_mesh
from unclip_jax.training.compiled_functions import compile_functions
from unclip_jax.training.spec import RunSpec

CHIPS = {"v5e:2x2": "TPU v5 lite", "v5p:2x2x1": "TPU v5", "v6e:2x2": "TPU v6 lite"}
LIBTPU = pathlib.Path(sys.prefix) / "tpu/libtpu/libtpu.so"
TASKS = {"clip": clip_task, "diffusion_prior": prior_task, "decoder": decoder_task, "upsampler": upsampler_task}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("compiled_anew"),  # cached programs for other chips cannot be loaded here
    pytest.mark.skipif(not LIBTPU.exists(), reason="libtpu is not installed. Run launch/test.sh --all to install it."),
]


@pytest.fixture(scope="module", params=CHIPS)
def mesh(request):
    """Four chips: 2 along data and 2 along fsdp."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TPU_LIBRARY_PATH", str(LIBTPU))
        patch.setenv("TPU_SKIP_MDS_QUERY", "1")  # there is no metadata server
        devices = topologies.get_topology_desc(platform="tpu", topology_name=request.param).devices
    assert {device.device_kind for device in devices} == {CHIPS[request.param]}
    return make_mesh(data=2, fsdp=2, devices=devices)


def abstract_arrays(tree, shardings):
    return jax.tree.map(lambda x, at: jax.ShapeDtypeStruct(jnp.shape(x), x.dtype, sharding=at), tree, shardings)


@pytest.mark.parametrize("kind", TASKS)
def test_training_step_compiles_for_tpu(kind, mesh):
    task = TASKS[kind]()
    task = dataclasses.replace(task, model=task.model.clone(dtype=jnp.bfloat16))
    data, fixed = batch(), frozen()
    functions = compile_functions(task, config=RunSpec(), frozen=fixed, batch=data, mesh=mesh)
    rows = {name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=rules.batch(mesh)) for name, x in data.items()}
    frozen_shapes = abstract_arrays(fixed, functions.frozen_shardings)
    compiled = functions.train.lower(functions.shapes, frozen_shapes, rows).compile()
    memory = compiled.memory_analysis()
    assert memory.argument_size_in_bytes > 0 and memory.temp_size_in_bytes > 0
    program = compiled.as_text()
    assert re.search(r"all-reduce|reduce-scatter", program)  # sum of gradients over devices
    assert re.search(r"bf16\[.*(convolution|dot)\(", program)
