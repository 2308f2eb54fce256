"""Effect of bfloat16 and remat on the compiled training step."""

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
# Products that stay float32: two of the time embedding, two of the embeddings added to it, the last layer, CLIP's
# cosine similarities, and two for resizing the input of an upsampler.
FLOAT32_PRODUCTS = {"clip_task": 1, "prior_task": 3, "decoder_task": 5, "upsampler_task": 5}


def changed(task, **fields):
    """Returns the task with changed network fields. A dtype also applies to the frozen CLIP."""
    networks = {"model": task.model.clone(**fields)}
    if "dtype" in fields and hasattr(task, "clip"):
        networks["clip"] = task.clip.clone(**fields)
    return dataclasses.replace(task, **networks)


def lowered(task, gradient=True):
    """Lowers the loss of eight examples, or its gradient."""
    data, fixed = batch(), frozen()
    params = jax.eval_shape(task.init, jax.random.key(1), data)
    keys = make_keys(0, "train", 0, data["row"])

    def loss(params):
        return task.loss(params, fixed, data, keys)[0]

    return jit(jax.grad(loss) if gradient else loss).lower(params)


@pytest.mark.parametrize("make", TASKS, ids=lambda make: make.__name__)
def test_products_and_convolutions_use_bfloat16(make):
    task = make()
    full = products(lowered(task, gradient=False).as_text())
    assert full and set(full) == {("f32", "f32")}
    low = products(lowered(changed(task, dtype=jnp.bfloat16), gradient=False).as_text())
    assert len(low) == len(full)
    assert low.count(("f32", "f32")) == FLOAT32_PRODUCTS[make.__name__]
    assert low.count(("bf16", "bf16")) == len(low) - FLOAT32_PRODUCTS[make.__name__]


# For U-Nets, XLA removes the rematerialization on CPU. tests/models/test_unet.py checks the program before XLA.
@pytest.mark.parametrize(
    ("make", "deep"), [(clip_task, {"image_layers": 6, "text_layers": 6}), (prior_task, {"layers": 8})]
)
def test_remat_of_a_transformer_reduces_memory(make, deep):
    sizes = [
        lowered(changed(make(), remat=remat, **deep)).compile().memory_analysis().temp_size_in_bytes
        for remat in (False, True)
    ]
    assert sizes[1] < 0.9 * sizes[0]


def test_compute_dtype_auto_depends_on_the_platform():
    assert compute_dtype("auto", "cpu") == jnp.float32
    assert compute_dtype("auto", "tpu") == compute_dtype("auto", "gpu") == jnp.bfloat16
    assert compute_dtype("float32", "tpu") == jnp.float32
    with pytest.raises(ValueError, match="Unknown dtype 'float16'. Available: auto, float32, bfloat16"):
        compute_dtype("float16", "cpu")


def test_load_cascade_uses_the_requested_dtype():
    low = load_cascade("shapes", stages=["clip"], dtype="bfloat16").stages["clip"]
    assert low.module.dtype == jnp.bfloat16
    full = load_cascade("shapes", stages=["clip"]).stages["clip"]
    assert full.module.dtype == jnp.float32
    sizes = [sum(leaf.nbytes for leaf in jax.tree.leaves(stage.params)) for stage in (low, full)]
    assert 0.5 <= sizes[0] / sizes[1] < 0.51
    # Rounding on loading has no effect, because the network rounds the same parameters.
    pixels = jax.random.normal(jax.random.key(0), (4, low.module.image_size, low.module.image_size, 3))
    encode = jit(lambda params: low.module.apply({"params": params}, pixels, method="encode_image"))
    np.testing.assert_array_equal(encode(low.params), encode(full.params))
