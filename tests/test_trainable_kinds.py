"""Training, packaging and sampling of each trainable kind, with default settings."""

import numpy as np
import pytest

from unclip_jax import experiment
from unclip_jax.cascades.folder import load_stage
from unclip_jax.experiment.config import typed
from unclip_jax.kinds import KINDS, kind_of
from unclip_jax.sampling.rows import SampleRequest
from unclip_jax.stages.conditions import Conditions
from unclip_jax.stages.stage import Stage

pytestmark = [pytest.mark.usefixtures("one_device"), pytest.mark.slow]

U_NET = {"image_size": 64, "channels": 32, "channel_mult": (1,), "res_blocks": 1}
# Required fields only. Images are 64 px, the default of the data.
MODELS = {
    "clip": {
        "embed_dim": 16, "image_size": 64, "patch_size": 32, "image_width": 16, "image_layers": 1, "image_heads": 2,
        "vocab_size": 560, "context_length": 48, "text_width": 16, "text_layers": 1, "text_heads": 2,
    },
    "diffusion_prior": {
        "embed_dim": 16, "text_width": 16, "context_length": 48, "width": 16, "layers": 1, "heads": 2,
    },
    "decoder": {
        **U_NET, "attention_resolutions": (), "head_channels": 16, "embed_dim": 16, "text_width": 16,
        "context_width": 16,
    },
    "upsampler": U_NET,
}  # fmt: skip
# Other required settings: the batch fields of the task, and the parameterization of the prior.
NEEDED = {
    "clip": {"data": {"captions": True}},
    "diffusion_prior": {"data": {"captions": True}, "diffusion": {"predicts": "x0"}},
    "decoder": {"data": {"captions": True, "clip_size": 64}},
    "upsampler": {"data": {"low_res_size": 32}},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Trains every kind for two steps, CLIP first, and packages all of them into one cascade."""
    folder = tmp_path_factory.mktemp("kinds")
    for name, model in MODELS.items():
        sections = {"task": {"kind": name, "stage": name}, "model": model, **NEEDED[name]}
        sections["data"] = {"source": "captioned_shapes/tiny", **sections["data"]}
        sections["training"] = {"steps": 2, "global_batch": 2}
        sections["encoders"] = {"clip": str(folder / "made")} if name in ("diffusion_prior", "decoder") else {}
        assert experiment.train_stage(typed(sections), folder / name, progress=False) == 2
        assert experiment.package([folder / name], folder / "made") == [name]
    return folder / "made"


def test_every_trainable_kind_is_covered():
    assert set(MODELS) == {name for name, kind in KINDS.items() if kind.make_task is not None}


@pytest.mark.parametrize("name", MODELS)
def test_stage_trained_with_defaults_loads_and_samples(folder, name):
    stage, clip = load_stage(folder / name), load_stage(folder / "clip")
    if not kind_of(stage).is_sampled:
        assert np.isfinite(encoded(stage, ["a ring"]).text[name].pooled).all()
        return
    assert stage.spec.sampling.steps == 250 and stage.spec.sampling.sampler == "ddpm"
    settings = type(stage.spec.sampling)(steps=1)
    made = kind_of(stage).sample_stage(
        stage,
        encoded(clip, ["a ring"]),
        encoded(clip, [""]),
        settings=settings,
        request=SampleRequest(seed=0, image_ids=np.arange(1)),
    )
    assert made.shape == ((1, 16) if kind_of(stage).produces == "embedding" else (1, 64, 64, 3))
    assert np.isfinite(made).all()


def encoded(clip: Stage, captions: list[str]) -> Conditions:
    """Returns all conditions that a stage may read."""
    image = np.zeros((len(captions), 64, 64, 3), np.uint8)
    conditions = kind_of(clip).encode_text(clip, captions).merge(kind_of(clip).encode_images(clip, image))
    return conditions.merge(Conditions(low_res=np.zeros((len(captions), 32, 32, 3), np.float32)))
