"""Makes karlo-pipeline.npz: pictures of diffusers' unCLIP pipeline with drawn weights and drawn noise. Needs `parity`.

    python -m tests.golden.make_karlo_pipeline

The file holds the prompts, what each stage gave, and as JSON the config.json of every part, and each tensor's name,
behind its folder's, and shape. The noise of every step is drawn by `noise`, here and in the test.
"""

import json
import pathlib
import tempfile

import diffusers
import numpy as np
import torch
import transformers
from diffusers.pipelines.deprecated.unclip.text_proj import UnCLIPTextProjModel
from diffusers.schedulers import scheduling_unclip

from tests.golden.drawn import letters_tokenizer, noise
from tests.golden.peer import HERE, fill

PROMPTS = ["a red circle", "Bag"]
EMBED, VOCAB, LENGTH, CONTEXT = 32, 64, 12, 40
SMALL, LARGE = 16, 32
STEPS = {"prior": 5, "decoder": 6, "super_res": 7}
SCALES = {"prior": 1.0, "decoder": 3.0}


def parts(tokenizer_folder: pathlib.Path) -> dict:
    """A pipeline's parts, of small sizes."""
    text = transformers.CLIPTextConfig(
        vocab_size=VOCAB, hidden_size=EMBED, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=LENGTH, projection_dim=EMBED, bos_token_id=VOCAB - 2, eos_token_id=VOCAB - 1,
        pad_token_id=0,
    )  # fmt: skip
    unet = {
        "block_out_channels": (32, 48), "layers_per_block": 1, "norm_num_groups": 16, "in_channels": 3,
    }  # fmt: skip
    super_res = {
        **unet, "in_channels": 6, "out_channels": 3, "sample_size": LARGE, "add_attention": False,
        "down_block_types": ("ResnetDownsampleBlock2D",) * 2, "up_block_types": ("ResnetUpsampleBlock2D",) * 2,
    }  # fmt: skip
    return {
        "text_encoder": transformers.CLIPTextModelWithProjection(text),
        "tokenizer": transformers.CLIPTokenizer.from_pretrained(tokenizer_folder),
        "prior": diffusers.PriorTransformer(
            num_attention_heads=4, attention_head_dim=8, num_layers=2, embedding_dim=EMBED, num_embeddings=LENGTH
        ),
        "text_proj": UnCLIPTextProjModel(
            clip_extra_context_tokens=3, clip_embeddings_dim=EMBED, time_embed_dim=128, cross_attention_dim=CONTEXT
        ),
        "decoder": diffusers.UNet2DConditionModel(
            **unet, out_channels=6, sample_size=SMALL, cross_attention_dim=CONTEXT, attention_head_dim=16,
            down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
            mid_block_type="UNetMidBlock2DSimpleCrossAttn",
            up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
            class_embed_type="identity", resnet_time_scale_shift="scale_shift",
        ),
        "super_res_first": diffusers.UNet2DModel(**super_res),
        "super_res_last": diffusers.UNet2DModel(**super_res),
        "prior_scheduler": diffusers.UnCLIPScheduler(
            variance_type="fixed_small_log", prediction_type="sample", clip_sample_range=5.0
        ),
        "decoder_scheduler": diffusers.UnCLIPScheduler(variance_type="learned_range", prediction_type="epsilon"),
        "super_res_scheduler": diffusers.UnCLIPScheduler(variance_type="fixed_small_log", prediction_type="epsilon"),
    }  # fmt: skip


class Noise:
    """Stands for the pipeline's random numbers: the draws of `noise`, in turn."""

    def __init__(self, stage: str):
        self.stage, self.draw = stage, 0

    def __call__(self, shape, **_) -> torch.Tensor:
        array = noise(self.stage, self.draw, (shape[0], *shape[2:], *shape[1:2]))
        self.draw += 1
        return torch.from_numpy(array.transpose(0, -1, *range(1, array.ndim - 1)).copy())


def record(pipeline, stages: dict[str, np.ndarray]):
    """Has every stage's steps take their noise from `noise`, and writes down what they end with."""
    for stage in STEPS:
        scheduler, draws = getattr(pipeline, f"{stage}_scheduler"), Noise(stage)
        draws.draw = 1  # 0 is what the stage begins with

        def step(*args, stage=stage, draws=draws, whole=scheduler.step, **kwargs):
            scheduling_unclip.randn_tensor = draws
            answer = whole(*args, **kwargs)
            stages[stage] = answer.prev_sample.numpy()
            return answer

        scheduler.step = step


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        letters_tokenizer(pathlib.Path(folder), vocab_size=VOCAB, context_length=LENGTH)
        made = parts(pathlib.Path(folder))
    shapes, configs = {}, {}
    for name, part in made.items():
        if hasattr(part, "state_dict"):
            shapes |= fill(part, f"{name}.")
        if name != "tokenizer":
            whole = part.config if isinstance(part, transformers.PreTrainedModel) else part
            configs[name] = json.loads(whole.to_json_string())
    pipeline, stages = diffusers.UnCLIPPipeline(**made), {}
    pipeline.set_progress_bar_config(disable=True)
    record(pipeline, stages)
    rows = len(PROMPTS)
    answer = pipeline(
        PROMPTS,
        prior_num_inference_steps=STEPS["prior"],
        decoder_num_inference_steps=STEPS["decoder"],
        super_res_num_inference_steps=STEPS["super_res"],
        prior_guidance_scale=SCALES["prior"],
        decoder_guidance_scale=SCALES["decoder"],
        prior_latents=Noise("prior")((rows, EMBED)),
        decoder_latents=Noise("decoder")((rows, 3, SMALL, SMALL)),
        super_res_latents=Noise("super_res")((rows, 3, LARGE, LARGE)),
        output_type="np",
    )
    within = np.mean((answer.images > 2 / 255) & (answer.images < 253 / 255))
    print(f"{within:.0%} of the pixels are between 2 and 253")
    about = {
        "peer": f"diffusers {diffusers.__version__} UnCLIPPipeline",
        "prompts": PROMPTS,
        "steps": STEPS,
        "scales": SCALES,
        "configs": configs,
        "shapes": shapes,
    }
    np.savez_compressed(
        HERE / "karlo-pipeline.npz",
        about=json.dumps(about, indent=1),
        embedding=stages["prior"],
        small=stages["decoder"].transpose(0, 2, 3, 1),
        images=answer.images,
    )


if __name__ == "__main__":
    main()
