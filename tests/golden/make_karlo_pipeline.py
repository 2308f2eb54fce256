"""Writes the outputs of diffusers' unCLIP pipelines with random weights and noise.

    python -m tests.golden.make_karlo_pipeline

    karlo-pipeline.npz      images from prompts
    karlo-variations.npz    variations of an image
    karlo-guidance.npz      guided outputs of the prior and the decoder at every step, with Karlo's guidance scales

Needs the extra `parity`. The first two files contain the inputs, the images and, as JSON, the config.json of every part
and the names and shapes of its tensors, with the folder as prefix. The noise of every step is that of `noise`, here and
in the tests.
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
from tests.golden.recording import HERE, fill

PROMPTS = ["a red circle", "Bag"]
EMBED, VOCAB, LENGTH, CONTEXT = 32, 64, 12, 40
SMALL, LARGE = 16, 32
STEPS = {"prior": 5, "decoder": 6, "super_res": 7}
SCALES = {"prior": 1.0, "decoder": 3.0}
KARLO_SCALES = {"prior": 4.0, "decoder": 8.0}
UNCONFIGURED = (transformers.PreTrainedTokenizerBase, transformers.CLIPImageProcessor)


def parts(tokenizer_folder: pathlib.Path) -> dict:
    """Returns the parts of a small pipeline."""
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
    """Replacement for the `randn_tensor` of a pipeline that returns the draws of `noise` in order."""

    def __init__(self, stage: str):
        self.stage, self.draw = stage, 0

    def __call__(self, shape, **_) -> torch.Tensor:
        array = noise(self.stage, self.draw, (shape[0], *shape[2:], *shape[1:2]))
        self.draw += 1
        return torch.from_numpy(array.transpose(0, -1, *range(1, array.ndim - 1)).copy())


def inject(pipeline) -> dict[str, np.ndarray]:
    """Makes all stages of a pipeline use the noise of `noise`.

    Returns:
      A dict that a run of the pipeline fills with the last x of each stage, and with the guided output of the network,
      t and x_t of each step.
    """
    pipeline.set_progress_bar_config(disable=True)
    outputs = {}
    for stage in STEPS:
        scheduler, draws = getattr(pipeline, f"{stage}_scheduler", None), Noise(stage)
        if scheduler is None:
            continue
        draws.draw = 1  # draw 0 is the initial noise

        def step(*args, stage=stage, draws=draws, original_step=scheduler.step, **kwargs):
            scheduling_unclip.randn_tensor = draws
            output = original_step(*args, **kwargs)
            outputs[stage] = output.prev_sample.numpy()
            arguments = dict(zip(("model_output", "timestep", "sample"), args, strict=False)) | kwargs
            for name in ("model_output", "timestep", "sample"):
                outputs.setdefault(f"{stage}_{name}", []).append(np.array(arguments[name]))
            return output

        scheduler.step = step
    return outputs


def initial_noise(rows: int) -> dict[str, torch.Tensor]:
    """Returns the initial noise of decoder and upsampler, as arguments of a pipeline."""
    return {
        "decoder_latents": Noise("decoder")((rows, 3, SMALL, SMALL)),
        "super_res_latents": Noise("super_res")((rows, 3, LARGE, LARGE)),
    }


def write(name: str, pipeline_class: type, components: dict, images: np.ndarray, **arrays: np.ndarray) -> None:
    within = np.mean((images > 2 / 255) & (images < 253 / 255))
    print(f"{name}: {within:.0%} of the values are between 2 and 253")
    shapes, configs = {}, {}
    for part, component in components.items():
        if isinstance(component, torch.nn.Module):
            shapes |= {f"{part}.{name}": list(tensor.shape) for name, tensor in component.state_dict().items()}
        if not isinstance(component, UNCONFIGURED):
            component = component.config if isinstance(component, transformers.PreTrainedModel) else component
            configs[part] = json.loads(component.to_json_string())
    about = {
        "peer": f"diffusers {diffusers.__version__} {pipeline_class.__name__}",
        "prompts": PROMPTS,
        "steps": STEPS,
        "scales": SCALES,
        "configs": configs,
        "shapes": shapes,
    }
    np.savez_compressed(HERE / f"{name}.npz", about=json.dumps(about, indent=1), images=images, **arrays)


def run(components: dict, scales: dict[str, float]) -> tuple[np.ndarray, dict]:
    pipeline = diffusers.UnCLIPPipeline(**components)
    outputs = inject(pipeline)
    images = pipeline(
        PROMPTS,
        prior_num_inference_steps=STEPS["prior"],
        decoder_num_inference_steps=STEPS["decoder"],
        super_res_num_inference_steps=STEPS["super_res"],
        prior_guidance_scale=scales["prior"],
        decoder_guidance_scale=scales["decoder"],
        prior_latents=Noise("prior")((len(PROMPTS), EMBED)),
        **initial_noise(len(PROMPTS)),
        output_type="np",
    ).images
    return images, outputs


def text_to_image(components: dict) -> None:
    images, _ = run(components, SCALES)
    write("karlo-pipeline", diffusers.UnCLIPPipeline, components, images)


def guidance(components: dict) -> None:
    """Writes the guided output of every step with its inputs.

    Whole images cannot be compared at these scales: networks with random weights amplify rounding errors too much.
    """
    _, outputs = run(components, KARLO_SCALES)
    path = {}
    for stage in ("prior", "decoder"):
        for ours, name in (("answer", "model_output"), ("t", "timestep"), ("x", "sample")):
            steps = np.stack(outputs[f"{stage}_{name}"])
            path[f"{stage}_{ours}"] = np.moveaxis(steps, 2, -1) if steps.ndim > 1 else steps
    np.savez_compressed(HERE / "karlo-guidance.npz", **path, embedding=outputs["prior"])


def variations(components: dict) -> None:
    vision = transformers.CLIPVisionConfig(
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=LARGE,
        patch_size=8,
        projection_dim=EMBED,
    )
    components = {name: part for name, part in components.items() if not name.startswith("prior")}
    components["image_encoder"] = transformers.CLIPVisionModelWithProjection(vision)
    fill(components["image_encoder"], "image_encoder.")
    components["feature_extractor"] = transformers.CLIPImageProcessor()
    pipeline = diffusers.UnCLIPImageVariationPipeline(**components)
    outputs = inject(pipeline)
    image = np.random.default_rng(0).integers(0, 256, (LARGE, LARGE, 3), np.uint8)
    mean, std = components["feature_extractor"].image_mean, components["feature_extractor"].image_std
    pixels = ((image / 255.0 - mean) / std).astype(np.float32)
    images = pipeline(
        torch.from_numpy(pixels).permute(2, 0, 1)[None],
        num_images_per_prompt=2,
        decoder_num_inference_steps=STEPS["decoder"],
        super_res_num_inference_steps=STEPS["super_res"],
        decoder_guidance_scale=SCALES["decoder"],
        **initial_noise(2),
        output_type="np",
    ).images
    small = outputs["decoder"].clip(-1, 1).transpose(0, 2, 3, 1)
    write("karlo-variations", diffusers.UnCLIPImageVariationPipeline, components, images, image=image, small=small)


def filled() -> dict:
    """Returns new parts with random weights. Parts cannot be reused, because `inject` changes the schedulers."""
    with tempfile.TemporaryDirectory() as folder:
        components = parts(letters_tokenizer(pathlib.Path(folder), vocab_size=VOCAB, context_length=LENGTH))
    for name, part in components.items():
        if isinstance(part, torch.nn.Module):
            fill(part, f"{name}.")
    return components


if __name__ == "__main__":
    text_to_image(filled())
    guidance(filled())
    variations(filled())
