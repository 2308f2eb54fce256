"""Diffusion prior, which predicts a CLIP image embedding from a caption.

It is the diffusion prior of unCLIP (Ramesh et al. 2022, arXiv 2204.06125, Section 2.2). The network operates on
standardized embeddings, whose statistics are extras of the stage. Samples are mapped back to unnormalized embeddings.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from unclip_jax.arrays import Float, PyTree
from unclip_jax.kinds.clip import image_embeddings
from unclip_jax.kinds.kind import CLIP, StageKind, TaskParts
from unclip_jax.models.diffusion_prior import DiffusionPrior
from unclip_jax.sampling.denoising import Denoising, Inputs, network_call
from unclip_jax.sampling.diffusion import sample_diffusion
from unclip_jax.stages import embedding_statistics
from unclip_jax.stages.conditions import Conditions
from unclip_jax.stages.embedding_statistics import EmbeddingStatistics
from unclip_jax.stages.spec import StageSpec
from unclip_jax.stages.stage import Stage
from unclip_jax.tasks.diffusion_prior import DiffusionPriorOptions, DiffusionPriorTask

STATISTICS_ROWS = 4096


def check(spec: StageSpec, module: DiffusionPrior) -> None:
    """Raises ValueError unless the network predicts x0."""
    if spec.diffusion.predicts != "x0":
        raise ValueError(
            f"diffusion.predicts of {spec.name} must be 'x0', got {spec.diffusion.predicts!r}. Priors predict the "
            "embedding itself."
        )


def make_task(parts: TaskParts) -> DiffusionPriorTask:
    """Returns the training task of the stage."""
    clip = parts.encoders[CLIP]
    empty = clip.tokenizer.encode([""])[0]
    return DiffusionPriorTask(parts.module, clip.module, parts.schedule, empty, **vars(parts.options))


def fit_extras(parts: TaskParts, batches: Iterator[Mapping[str, np.ndarray]]) -> Mapping[str, PyTree]:
    """Computes the statistics of the first STATISTICS_ROWS training embeddings, in whole batches."""
    embeddings = (
        batch["embedding"] if "embedding" in batch else image_embeddings(parts.encoders[CLIP], batch["image"])
        for batch in batches
    )
    return embedding_statistics.fit(embeddings, rows=STATISTICS_ROWS).to_extras()


def inputs(stage: Stage, conditions: Conditions) -> Inputs:
    """Returns the text features as network inputs."""
    return {"text": conditions.text[stage.spec.encoders[CLIP].stage]}


def unconditional(module: DiffusionPrior, inputs: Inputs, empty: Inputs) -> Inputs:
    """Replaces the caption with the empty caption."""
    return empty


DENOISING = Denoising(inputs, unconditional, shape=lambda module: (module.embed_dim,))


def sample(stage: Stage, conditions: Conditions, empty: Conditions, **arguments: Any) -> Float["N E"]:
    """Samples unnormalized image embeddings."""
    z = sample_diffusion(stage, network_call(DENOISING, stage, conditions, empty), **arguments)
    return EmbeddingStatistics.from_extras(stage.extras).unstandardize(z)


KIND = StageKind(
    name="diffusion_prior",
    network=DiffusionPrior,
    produces="embedding",
    roles=lambda module: (CLIP,),
    shared_fields=("embed_dim", "text_width", "context_length"),
    reads=lambda module: ("text",),
    batch_fields=("tokens",),
    options=DiffusionPriorOptions,
    check=check,
    make_task=make_task,
    fit_extras=fit_extras,
    extras_shapes=lambda module: embedding_statistics.shapes(module.embed_dim),
    denoising=DENOISING,
    sample=sample,
)
