"""Compares published weights on this disk with their original implementation, network by network.

`launch/check_published_weights.sh` installs the requirements and runs this script:

    python -m tests.golden.check_published SOURCE [--peer PATH] [--clip PATH] [--tokenizer PATH]

Outputs may differ by 1e-4 of the largest value. Needs the extra `parity`, and for some families a clone of the original
repository (see ORIGINALS), which is not modified. No images are sampled. Networks that accept any image size are
compared on images of at most 64 px.

The exit code is 0 if all outputs match, 1 if an output differs, and 2 if nothing could be compared.
"""

import argparse
import dataclasses
import datetime
import gc
import hashlib
import importlib
import math
import pathlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from unclip_jax import images
from unclip_jax.errors import first_line
from unclip_jax.kinds import kind_of
from unclip_jax.models.network import parameter_shapes
from unclip_jax.models.text_features import TextFeatures
from unclip_jax.pretrained import hub, registry
from unclip_jax.pretrained.karlo import files as karlo_files
from unclip_jax.pretrained.published import Published, PublishedStage, Weights
from unclip_jax.pretrained.rules import check, import_params
from unclip_jax.stages.embedding_statistics import EmbeddingStatistics
from unclip_jax.tokenizers.open import open_tokenizer

LIMIT = 1e-4
CAPTIONS = ["a corgi playing a flute", "an oil painting of two red stars"]
ROWS, T = len(CAPTIONS), np.array([870, 3])
SIDE, LENGTH = 64, 77
PARITY = '.venv/bin/pip install ".[parity]"'
CLONE = "git clone https://github.com/{}, and pass the folder with --peer PATH"
# For each family, a module of the original implementation and how to install it.
ORIGINALS = {
    "CLIP in Hugging Face's layout": ("transformers", PARITY),
    "CLIP in OpenAI's layout": ("torch", PARITY),
    "CLIP in OpenCLIP's layout": (
        "open_clip",
        ".venv/bin/pip install open_clip_torch, or " + CLONE.format("mlfoundations/open_clip"),
    ),
    "Karlo in diffusers' layout": ("diffusers", PARITY),
    "Karlo in its own layout": ("karlo.modules.unet", CLONE.format("kakaobrain/karlo")),
    "GLIDE": ("glide_text2im.text2im_model", CLONE.format("openai/glide-text2im")),
    "guided-diffusion": ("guided_diffusion.unet", CLONE.format("openai/guided-diffusion")),
}


@dataclasses.dataclass(frozen=True, eq=False)
class Model:
    """A published model with the inputs of its text encoder.

    Attributes:
      published: The model, without a CLIP model from another source.
      path: Its file or folder.
      tokens: Tokens of CAPTIONS and their padding mask, each [B, L]. If None, random tokens are used.
    """

    published: Published
    path: pathlib.Path
    tokens: tuple[np.ndarray, np.ndarray] | None


def find_models(
    source: str, *, clip: str | None = None, tokenizer: str | None = None, peer: str | None = None
) -> list[Model]:
    """Opens a model, preceded by its CLIP model if that is a separate source. Arguments as on the command line.

    Raises:
      ValueError: If the source is not a published model, if its weights do not match the network, or if the original
        implementation cannot be imported.
    """
    path = pathlib.Path(hub.find(source))
    published, models = registry.recognize(path, clip=clip), []
    if clip is not None:
        models = find_models(clip, tokenizer=tokenizer, peer=peer)
        own = [stage for stage in published.stages if stage.spec.kind != "clip"]
        published = dataclasses.replace(published, stages=own)
    for stage in published.stages:
        for weights in filter(None, (stage.weights, stage.last)):
            expected, what = parameter_shapes(network_of(stage)), f"weights of {stage.name} in {stage.source!r}"
            check(weights.tensors, weights.rules, expected, what=what)
    require(published.family, peer)
    return [*models, Model(published, path, read_captions(published, tokenizer))]


def network_of(stage: PublishedStage) -> nn.Module:
    """Returns the network of this package, in float32."""
    return kind_of(stage.spec).build(stage.spec, where=stage.name)


def require(family: str, peer: str | None) -> None:
    """Checks that the original implementation of a family can be imported.

    Args:
      family: Name of the family.
      peer: Clone of the original repository, which is added to sys.path. If None, the package must be installed.

    Raises:
      ValueError: If it cannot be imported. The message contains the command that installs it.
    """
    if peer is not None and not pathlib.Path(peer).is_dir():
        raise ValueError(f"--peer must be a folder, got {peer!r}.")
    if peer is not None:
        sys.path[:0] = [peer, f"{peer}/src"]  # the package of OpenCLIP is in src
    for module, installation in (("torch", PARITY), ORIGINALS[family]):
        try:
            importlib.import_module(module)
        except ImportError as error:
            package, why = module.split(".")[0], first_line(error)
            raise ValueError(
                f"{family} needs {package}, which cannot be imported ({why}). To install it: {installation}"
            ) from error


def read_captions(published: Published, tokenizer: str | None) -> tuple[np.ndarray, np.ndarray] | None:
    """Tokenizes CAPTIONS.

    Args:
      published: The model.
      tokenizer: Folder or hub id of the tokenizer. If None, that of the model.

    Returns:
      Tokens and padding mask, or None if there is no tokenizer.

    Raises:
      ValueError: If the tokenizer does not match the network, or if the model has no text encoder.
    """
    if tokenizer is not None and published.tokenizer_name is None:
        raise ValueError(f"{published.family} uses no tokenizer. Omit --tokenizer {tokenizer}.")
    folder = published.tokenizer if tokenizer is None else hub.find(tokenizer)
    reader = next((stage for stage in published.stages if kind_of(stage.spec).encode_text is not None), None)
    if not folder or reader is None:
        return None
    name = f"{reader.name} of {reader.source!r}"
    opened = open_tokenizer(folder, kind_of(reader.spec).tokenizer, reader.spec.model, name=name)
    tokens = opened.encode(CAPTIONS, on_truncate=lambda line: None)
    return tokens if isinstance(tokens, tuple) else (tokens, np.ones(tokens.shape, bool))


def inputs(stage: PublishedStage, tokens: tuple[np.ndarray, np.ndarray] | None) -> dict[str, np.ndarray]:
    """Returns the inputs of a stage by name. They are the same in every call.

    Images are [B, H, W, C], timesteps and labels [B], tokens [B, L], and text features as in `TextFeatures`.

    Args:
      stage: The stage.
      tokens: As in `Model`.
    """
    rng, kind, fields = np.random.default_rng(0), stage.spec.kind, stage.spec.model

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal((ROWS, *shape)).astype(np.float32)

    length, side = fields.get("context_length", LENGTH), fields.get("image_size")
    lengths = np.array([[length], [length // 2]])
    given = {} if kind == "clip" else {"t": T}
    if kind in ("clip", "glide"):
        ids, mask = tokens or random_tokens(rng, fields["vocab_size"], np.arange(length) - lengths)
        given |= {"tokens": ids.astype(np.int64)} | ({"mask": mask} if kind == "glide" else {})
    if kind in ("diffusion_prior", "decoder"):
        given |= {"z": normal(fields["embed_dim"]), "pooled": normal(fields["embed_dim"])}
        given |= {"sequence": normal(length, fields["text_width"]), "mask": np.arange(length) < lengths}
    if kind == "clip" and side:
        given["pixels"] = normal(side, side, 3)
    if kind in ("clip", "diffusion_prior"):
        return given

    side = side if kind == "noised_classifier" else min(SIDE, side)  # the attention pool has a fixed size
    given["x"], channels = normal(side, side, 3), fields.get("in_channels", 3)
    if kind == "decoder":
        given["drop"] = np.array([False, True])
    if kind == "upsampler":
        given["low_res"] = normal(side, side, 3)
    if kind in ("glide", "unet") and channels in (6, 10):
        given["low_res"] = normal(side // 4, side // 4, 3)
    if kind == "glide" and channels in (7, 10):
        given |= {"known": normal(side, side, 3), "known_mask": (normal(side, side, 1) < 0).astype(np.float32)}
    if kind == "unet" and fields["num_classes"]:
        given["labels"] = np.array([fields["num_classes"] - 1, 1])
    return given


def random_tokens(rng: np.random.Generator, vocab_size: int, position: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns random tokens that end with the highest id, like CLIP's end token, and padding with 0, and their mask.

    Args:
      rng: Random generator.
      vocab_size: Size of the vocabulary.
      position: Position relative to the end of each caption, int [B, L]. The last token of a caption is at -1.
    """
    ids = rng.integers(1, vocab_size - 1, position.shape)
    return np.where(position < -1, ids, np.where(position == -1, vocab_size - 1, 0)), position < 0


def ours(stage: PublishedStage, weights: Weights, given: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the float32 outputs of the network of this package by name.

    CLIP has the outputs of `clip_outputs`, all other networks have "output". The prior also has "embedding", which is
    its output without standardization.
    """
    kind, module = stage.spec.kind, network_of(stage)
    params = import_params(weights.tensors, weights.rules, parameter_shapes(module), what=stage.name)

    @jax.jit
    def run(params, given):
        if kind == "clip":
            return clip_outputs(module.bind({"params": params}), given)
        args, kwargs = arguments_of(kind, given)
        outputs = {"output": module.apply({"params": params}, *args, **kwargs)}
        if kind == "diffusion_prior":
            outputs["embedding"] = EmbeddingStatistics.from_extras(stage.extras).unstandardize(outputs["output"])
        return outputs

    with jax.default_matmul_precision("highest"):  # accelerators multiply float32 with a lower precision by default
        return {name: np.asarray(output) for name, output in run(params, dict(given)).items()}


def clip_outputs(clip: nn.Module, given: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    text = clip.encode_text(given["tokens"])
    outputs = {"pooled": text.pooled, "sequence": text.sequence}
    if "pixels" in given:
        outputs |= {"image": clip.encode_image(given["pixels"]), "scale": clip.cosine_scale()}
    return outputs


def arguments_of(kind: str, given: Mapping[str, jax.Array]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Returns the positional and keyword arguments of a network."""
    x, t = given.get("x"), given["t"]
    if kind in ("diffusion_prior", "decoder"):
        text = TextFeatures(given["pooled"], given["sequence"], given["mask"])
        if kind == "diffusion_prior":
            return (given["z"], t, text), {}
        return (x, t, given["z"], text), {"drop_image": given["drop"]}
    if kind == "upsampler":
        return (x, t, given["low_res"]), {}
    extra_channels = jnp.concatenate(extra_images(given), axis=-1)
    if kind == "glide":
        return (x, t, given["tokens"], given["mask"]), {"extra_channels": extra_channels}
    labels = {"labels": given["labels"]} if "labels" in given else {}
    return (jnp.concatenate([x, extra_channels], axis=-1), t), labels


def extra_images(given: Mapping[str, jax.Array]) -> list[jax.Array]:
    """Returns the images that are concatenated after the noisy image, preceded by an image without channels."""
    parts = [given["x"][..., :0]]
    if "known" in given:
        parts += [given["known"] * given["known_mask"], given["known_mask"]]
    if "low_res" in given:
        parts.append(images.resize(given["low_res"], given["x"].shape[1], method="bilinear"))
    return parts


def theirs(
    family: str, stage: PublishedStage, given: Mapping[str, np.ndarray], *, is_last: bool
) -> dict[str, np.ndarray]:
    """Returns the outputs of the original implementation, by the names of `ours`."""
    from tests.golden import original_implementations

    return original_implementations.run(family, stage, given, is_last=is_last)


def difference(actual: np.ndarray, expected: np.ndarray) -> float:
    """Returns the largest difference relative to the largest expected value, or NaN if there are NaNs.

    Raises:
      ValueError: If the shapes differ.
    """
    if actual.shape != expected.shape:
        raise ValueError(f"The output must have the original shape {list(expected.shape)}, got {list(actual.shape)}.")
    return float(np.max(np.abs(actual - expected)) / np.max(np.abs(expected)))


def compare(model: Model) -> Iterator[tuple[str, dict[str, float]]]:
    """Yields, for each network, a line with its size and the difference of each output.

    Only one network is in memory at a time.
    """
    published = model.published
    for stage in published.stages:
        given = inputs(stage, model.tokens)
        for is_last, weights in enumerate(filter(None, (stage.weights, stage.last))):
            expected = theirs(published.family, stage, given, is_last=bool(is_last))
            gc.collect()  # PyTorch modules have reference cycles and would stay in memory
            actual = ours(stage, weights, given)
            name = f"{stage.name}, last step" if is_last else stage.name
            count = sum(math.prod(tensor.shape) for tensor in weights.tensors.values())
            line = f"{name}: {len(weights.tensors):,} tensors, {count:,} parameters"
            yield line, {output: difference(actual[output], expected[output]) for output in expected}


def is_within_limit(distance: float) -> bool:
    """Returns whether a difference is small enough. NaN is not."""
    return distance <= LIMIT


def weight_files(model: Model) -> list[pathlib.Path]:
    """Returns the weights files of all networks, and the statistics file of Karlo's original layout."""
    sources = [pathlib.Path(stage.source) for stage in model.published.stages]
    if all(source.is_file() for source in sources):
        return sources + sorted(model.path.glob(f"{karlo_files.STATISTICS}*"))
    names = [path.relative_to(model.path).as_posix() for path in model.path.rglob("*") if path.is_file()]
    return [model.path / name for name in hub.select_files(names) if name.endswith(hub.WEIGHTS)]


def row(model: Model) -> str:
    """Returns a row for the table in README.md: family, what was checked, files with digests, and date."""
    files = weight_files(model)
    root = model.path if model.path.is_dir() else model.path.parent
    digests = ", ".join(f"`{file.relative_to(root).as_posix()}` sha256 {sha256(file)}" for file in files)
    checked = f"checked with the published file{'s' if len(files) > 1 else ''}"
    return f"| {model.published.family} | {checked} | {digests} | {datetime.date.today().isoformat()} |"


def sha256(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main(argv: Sequence[str]) -> int:
    """Runs the command and returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="check_published_weights", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", metavar="SOURCE", help="file or folder of a published model")
    parser.add_argument("--peer", metavar="PATH", help="clone of the original repository")
    parser.add_argument("--clip", metavar="PATH", help="CLIP model for Karlo's original files; it is checked as well")
    parser.add_argument(
        "--tokenizer", metavar="PATH", help="tokenizer, if SOURCE includes none (default: use random tokens)"
    )
    arguments = vars(parser.parse_args(argv))
    try:
        models = find_models(arguments.pop("source"), **arguments)
    except (ValueError, OSError) as error:
        print(f"check_published_weights: {first_line(error)}", file=sys.stderr)
        return 2
    all_match = True
    for model in models:
        original = ORIGINALS[model.published.family][0].split(".")[0]
        print(f"{model.published.family}, {model.path}, compared with {original}")
        for line, differences in compare(model):
            print(line)
            for output, distance in differences.items():
                all_match &= is_within_limit(distance)
                verdict = "OK" if is_within_limit(distance) else f"MISMATCH: more than {LIMIT:.0e}"
                print(f"  {output}: {distance:.1e} of the largest value, {verdict}", flush=True)
    if not all_match:
        print("check_published_weights: outputs differ from the original implementation", file=sys.stderr)
        return 1
    print("\nRow for the table of pretrained weights in README.md:")
    print(*map(row, models), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
