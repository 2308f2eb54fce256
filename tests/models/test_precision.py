"""What bfloat16 and remat do to the compiled training step, shown by the program itself."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.lowered_products import products
from tests.quick import jit
from tests.tasks.tiny_tasks import batch, clip_task, decoder_task, frozen, prior_task, upsampler_task
from unclip_jax.cascades.loading import load_cascade
from unclip_jax.models.precision import compute_dtype
from unclip_jax.training.task import make_keys

TASKS = (clip_task, prior_task, decoder_task, upsampler_task)
# Those that stay float32: of the time embedding two, of the embeddings that are added to it two, the last layer, and
# CLIP's cosines, and the two of the enlargement of an upsampler's input.
FLOAT32_PRODUCTS = {"clip_task": 1, "prior_task": 3, "decoder_task": 5, "upsampler_task": 5}


def changed(task, **fields):
    """The task over a changed network; another dtype goes for the frozen CLIP too."""
    networks = {"model": task.model.clone(**fields)}
    if "dtype" in fields and hasattr(task, "clip"):
        networks["clip"] = task.clip.clone(**fields)
    return dataclasses.replace(task, **networks)


def lowered(task, gradient=True):
    """The loss, or its gradient, of the eight examples."""
    data, fixed = batch(), frozen()
    params = jax.eval_shape(task.init, jax.random.key(1), data)
    keys = make_keys(0, "train", 0, data["row"])

    def loss(params):
        return task.loss(params, fixed, data, keys)[0]

    return jit(jax.grad(loss) if gradient else loss).lower(params)


@pytest.mark.parametrize("make", TASKS, ids=lambda make: make.__name__)
def test_products_and_convolutions_take_bfloat16(make):
    task = make()
    full = products(lowered(task, gradient=False).as_text())
    assert full and set(full) == {("f32", "f32")}
    low = products(lowered(changed(task, dtype=jnp.bfloat16), gradient=False).as_text())
    assert len(low) == len(full)
    assert low.count(("f32", "f32")) == FLOAT32_PRODUCTS[make.__name__]
    assert low.count(("bf16", "bf16")) == len(low) - FLOAT32_PRODUCTS[make.__name__]


# Of the U-Nets XLA undoes it on a CPU: tests/models/test_unet.py shows that the program asks for it.
@pytest.mark.parametrize(
    ("make", "deep"), [(clip_task, {"image_layers": 6, "text_layers": 6}), (prior_task, {"layers": 8})]
)
def test_remat_of_a_transformer_needs_less_memory(make, deep):
    sizes = [
        lowered(changed(make(), remat=remat, **deep)).compile().memory_analysis().temp_size_in_bytes
        for remat in (False, True)
    ]
    assert sizes[1] < 0.9 * sizes[0]


def test_auto_is_bfloat16_where_the_hardware_has_it():
    assert compute_dtype("auto", "cpu") == jnp.float32
    assert compute_dtype("auto", "tpu") == compute_dtype("auto", "gpu") == jnp.bfloat16
    assert compute_dtype("float32", "tpu") == jnp.float32
    with pytest.raises(ValueError, match="dtype 'float16' is unknown; known: auto, float32, bfloat16"):
        compute_dtype("float16", "cpu")


def test_a_cascade_opens_in_the_wanted_type():
    low = load_cascade("shapes", stages=["clip"], dtype="bfloat16").stages["clip"]
    assert low.module.dtype == jnp.bfloat16
    full = load_cascade("shapes", stages=["clip"]).stages["clip"]
    assert full.module.dtype == jnp.float32
    sizes = [sum(leaf.nbytes for leaf in jax.tree.leaves(stage.params)) for stage in (low, full)]
    assert 0.5 <= sizes[0] / sizes[1] < 0.51
    # What is rounded when the cascade is opened is rounded by the network in any case.
    pixels = jax.random.normal(jax.random.key(0), (4, low.module.image_size, low.module.image_size, 3))
    encode = jit(lambda params: low.module.apply({"params": params}, pixels, method="encode_image"))
    np.testing.assert_array_equal(encode(low.params), encode(full.params))
