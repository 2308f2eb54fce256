"""Text to image: the whole cascade, from captions to pictures."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from unclip_jax import images
from unclip_jax.arrays import Float, UInt8
from unclip_jax.cascades import stages
from unclip_jax.cascades.cascade import Cascade
from unclip_jax.cascades.embedding import clip_of, text_features
from unclip_jax.cascades.painting import check_numbers, paint, plan_of
from unclip_jax.cascades.sampling import Progress, Settings

MOST_WORDS = 20  # that a warning names


def text_to_image(
    cascade: Cascade,
    prompts: Sequence[str],
    *,
    count: int = 1,
    seed: int = 0,
    first_image: int = 0,
    image_embeddings: Float["N E"] | None = None,
    empty_caption: bool = False,
    prior_scale: float | None = None,
    decoder_scale: float | None = None,
    steps: Mapping[str, int | str] | None = None,
    sampler: Mapping[str, str] | None = None,
    candidates: int | None = None,
    sampling: Mapping[str, Mapping[str, Any]] | None = None,
    stop_after: str | None = None,
    free: bool = False,
    progress: Progress | None = None,
) -> UInt8["N H W 3"]:
    """Pictures of prompts, `count` of each: all of the first prompt, then all of the second.

    Picture number k of a call is a function of (seed, first_image + k, its prompt, settings) alone, to rounding.

    Args:
      prompts: P captions; N = P * count.
      image_embeddings: raw CLIP image embeddings that stand in for the prior; None: the prior makes them.
      empty_caption: gives the decoder the empty caption, so that the picture comes from the embedding alone.
      prior_scale, decoder_scale: of guidance, 1 is unguided. None, here and below: the cascade's own.
      steps, sampler: {stage: number of steps, or name of a path}, {stage: "ddpm" | "ddim" | "dpm"}.
      candidates: embeddings that the prior draws for each that the decoder is given, of which the best is taken.
      sampling: {stage: {field: value}}, any field of `sampling.Settings`; the arguments above go before it. With
        "candidates" the decoder too draws several for each picture, every one from an embedding of its own where the
        prior makes them, and the one nearest to the caption is taken; or to the given embedding, where the decoder is
        given the empty caption.
      stop_after: name of the stage whose pictures are wanted; None: the last.
      free: deletes the parameters of every stage from the devices as soon as this call needs them no more: the prior's
        before the decoder draws, CLIP's and the decoder's before the first upsampler does. The cascade is used up then,
        and so is whatever holds the same arrays, such as a `Clip` of it: open it again to draw again.
      progress: is called with (stage, steps done, steps in all).

    Warns, in a line each, where a prompt is cut, and where prompts hold words that the cascade's captions did not.
    Raises ValueError for empty prompts, numbers that cannot be, unknown stages, a stage that is missing, or a cascade
    that was freed.
    """
    plan = check(
        cascade, prompts, count=count, seed=seed, first_image=first_image, image_embeddings=image_embeddings,
        empty_caption=empty_caption, prior_scale=prior_scale, decoder_scale=decoder_scale, steps=steps,
        sampler=sampler, candidates=candidates, sampling=sampling, stop_after=stop_after,
    )  # fmt: skip
    numbers = first_image + np.arange(len(prompts) * count)
    common = {"seed": seed, "numbers": numbers, "progress": progress}
    captions = [prompt for prompt in prompts for _ in range(count)]
    if cascade.of_kind("glide"):
        seen = {"glide": cascade.tokenizer.encode(captions)}
        return paint(cascade, seen, plan=plan, stop_after=stop_after, free=free, **common)
    _warn_of_unknown_words(cascade, prompts)
    text = jax.tree.map(lambda x: np.repeat(x, count, axis=0), text_features(clip_of(cascade), prompts))
    wanted = text.pooled if image_embeddings is None or not empty_caption else np.asarray(image_embeddings)
    if image_embeddings is None:
        settings, each = plan[cascade.only("diffusion_prior").name], plan[cascade.only("decoder").name].candidates
        image_embeddings = stages.run_prior(cascade, text, settings=settings, each=each, **common)
    seen_text = stages.empty_like(cascade, len(numbers)) if empty_caption else text
    seen = {"decoder": (np.asarray(image_embeddings, np.float32), seen_text)}
    return paint(cascade, seen, plan=plan, wanted=wanted, stop_after=stop_after, free=free, **common)


def check(
    cascade: Cascade,
    prompts: Sequence[str],
    *,
    count: int = 1,
    seed: int = 0,
    first_image: int = 0,
    image_embeddings: Float["N E"] | None = None,
    empty_caption: bool = False,
    **settings: Any,
) -> dict[str, Settings]:
    """Checks the arguments of `text_to_image`, and returns the settings of every stage that is sampled. `settings`: as
    in `plan_of`."""
    if isinstance(prompts, str):
        raise ValueError(f"prompts is the string {prompts!r}; a list of strings is wanted")
    if not prompts or not all(prompt.strip() for prompt in prompts):
        raise ValueError("a prompt is empty; say what the picture shows")
    check_numbers(len(prompts), count=count, seed=seed, first_image=first_image)
    if cascade.tokenizer is None:
        raise ValueError(f"cascade {cascade.path!r} reads no prompts; give it labels: --class N, or class_to_image")
    if cascade.of_kind("glide"):
        if image_embeddings is not None or empty_caption:
            raise ValueError(f"cascade {cascade.path!r} is GLIDE, which knows captions alone, and no embeddings")
        return plan_of(cascade, **settings)
    wanted = (len(prompts) * count, clip_of(cascade).module.embed_dim)
    if image_embeddings is not None and np.shape(image_embeddings) != wanted:
        raise ValueError(f"image_embeddings are {list(np.shape(image_embeddings))}; {list(wanted)} is wanted")
    return plan_of(cascade, **settings)


def sample_prior(cascade: Cascade, prompts: Sequence[str], *, seed: int = 0, first_image: int = 0) -> Float["N E"]:
    """Raw image embeddings for prompts by the prior alone, at the cascade's own settings."""
    plan = check(cascade, prompts, seed=seed, first_image=first_image)
    return stages.run_prior(
        cascade,
        text_features(clip_of(cascade), prompts),
        settings=plan[cascade.only("diffusion_prior").name],
        seed=seed,
        numbers=first_image + np.arange(len(prompts)),
    )


def upsample(
    cascade: Cascade, low_res: Float["N h w 3"], *, size: int, seed: int = 0, first_image: int = 0
) -> UInt8["N H W 3"]:
    """Pictures of size x size by the one upsampler that makes that size, from pictures in [-1, 1].

    Raises ValueError for a size that no stage makes, and a cascade that was freed.
    """
    cascade.check_held()
    found = {stage.module.image_size: stage for stage in cascade.of_kind("upsampler")}
    if size not in found:
        raise ValueError(f"size {size} is made by no upsampler of the cascade; known: {sorted(found)}")
    pictures = stages.run_painter(
        cascade,
        found[size],
        None,
        low_res,
        settings=stages.stage_settings(found[size]),
        seed=seed,
        numbers=first_image + np.arange(len(low_res)),
    )
    return np.asarray(images.to_uint8(pictures))


def _warn_of_unknown_words(cascade: Cascade, prompts: Sequence[str]) -> None:
    unknown = dict.fromkeys(word for prompt in prompts for word in cascade.tokenizer.unknown_words(prompt))
    if unknown:
        named = ", ".join(list(unknown)[:MOST_WORDS])
        more = f" and {len(unknown) - MOST_WORDS} more" if len(unknown) > MOST_WORDS else ""
        draws = f" It draws {cascade.draws}." if cascade.draws else ""
        warnings.warn(f"no caption that this cascade was trained on has the words: {named}{more}.{draws}", stacklevel=3)
