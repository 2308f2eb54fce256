"""Holds published weights on this disk against the code that they came with: both answer the same inputs, network by
network. `launch/check_published_weights.sh` runs this with what it needs.

    python -m tests.golden.check_published SOURCE [--peer PATH] [--clip PATH] [--tokenizer PATH]

Answers may differ by 1e-4 of the largest. Needs `parity`, and of those families that have a repository of their own
(PEERS) a clone of it, of which nothing is changed. No picture is sampled; pictures of more than 64 px are not asked
for where the network takes others, as its weights are the same at any side.

Exit code: 0; 1 where an answer is too far; 2, with one line, where nothing could be compared.
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
CLONE = "git clone https://github.com/{}, and name the folder: --peer PATH"
# Of each family the module that answers, and where it comes from.
PEERS = {
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
    """A published model, with what its networks are asked.

    Args:
      published: as recognized, without the CLIP that was named beside it.
      path: its file or folder.
      tokens: what its tokenizer makes of CAPTIONS, int32 "B L", and which of them are no padding; None: drawn.
    """

    published: Published
    path: pathlib.Path
    tokens: tuple[np.ndarray, np.ndarray] | None


def find_models(
    source: str, *, clip: str | None = None, tokenizer: str | None = None, peer: str | None = None
) -> list[Model]:
    """The model, and before it the CLIP that belongs to it. Arguments: as on the command line.

    Raises ValueError for what is no published model, for weights that do not fit the network, and where the code that
    they came with is not importable.
    """
    path = pathlib.Path(hub.find(source))
    published, found = registry.recognize(path, clip=clip), []
    if clip is not None:
        found = find_models(clip, tokenizer=tokenizer, peer=peer)
        own = [stage for stage in published.stages if stage.spec.kind != "clip"]
        published = dataclasses.replace(published, stages=own)
    for stage in published.stages:
        for weights in filter(None, (stage.weights, stage.last)):
            expected, what = parameter_shapes(network_of(stage)), f"weights of {stage.name} in {stage.source!r}"
            check(weights.tensors, weights.rules, expected, what=what)
    require(published.family, peer)
    return [*found, Model(published, path, read_captions(published, tokenizer))]


def network_of(stage: PublishedStage) -> nn.Module:
    """The network here, in float32."""
    return kind_of(stage.spec).build(stage.spec, where=stage.name)


def require(family: str, peer: str | None) -> None:
    """Makes the folder `peer` importable. Raises ValueError, with the way out, where the family's code is not."""
    if peer is not None and not pathlib.Path(peer).is_dir():
        raise ValueError(f"--peer {peer!r} is no folder")
    if peer is not None:
        sys.path[:0] = [peer, f"{peer}/src"]  # a clone of open_clip has its package in src
    for module, way in (("torch", PARITY), PEERS[family]):
        try:
            importlib.import_module(module)
        except ImportError as error:
            package, why = module.split(".")[0], first_line(error)
            raise ValueError(f"{family} needs {package}, which cannot be imported ({why}): {way}") from error


def read_captions(published: Published, tokenizer: str | None) -> tuple[np.ndarray, np.ndarray] | None:
    """CAPTIONS as the model's tokenizer has them, or the one that is named; None where there is none.

    Raises ValueError for the tokenizer of another network, or one that is named where nothing reads captions.
    """
    if tokenizer is not None and published.tokenizer_name is None:
        raise ValueError(f"{published.family} reads no captions. Omit --tokenizer {tokenizer}.")
    folder = published.tokenizer if tokenizer is None else hub.find(tokenizer)
    reader = next((stage for stage in published.stages if kind_of(stage.spec).encode_text is not None), None)
    if not folder or reader is None:
        return None
    name = f"{reader.name} of {reader.source!r}"
    opened = open_tokenizer(folder, kind_of(reader.spec).tokenizer, reader.spec.model, name=name)
    tokens = opened.encode(CAPTIONS, on_truncate=lambda line: None)
    return tokens if isinstance(tokens, tuple) else (tokens, np.ones(tokens.shape, bool))


def inputs(stage: PublishedStage, tokens: tuple[np.ndarray, np.ndarray] | None) -> dict[str, np.ndarray]:
    """What a stage is asked, the same at every call: pictures "B H W C", steps and labels "B", tokens "B L", and CLIP's
    features as in `TextFeatures`; of these what its kind takes. tokens: as in Model."""
    rng, kind, fields = np.random.default_rng(0), stage.spec.kind, stage.spec.model

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal((ROWS, *shape)).astype(np.float32)

    length, side = fields.get("context_length", LENGTH), fields.get("image_size")
    lengths = np.array([[length], [length // 2]])
    given = {} if kind == "clip" else {"t": T}
    if kind in ("clip", "glide"):
        ids, mask = tokens or drawn_tokens(rng, fields["vocab_size"], np.arange(length) - lengths)
        given |= {"tokens": ids.astype(np.int64)} | ({"mask": mask} if kind == "glide" else {})
    if kind in ("diffusion_prior", "decoder"):
        given |= {"z": normal(fields["embed_dim"]), "pooled": normal(fields["embed_dim"])}
        given |= {"sequence": normal(length, fields["text_width"]), "mask": np.arange(length) < lengths}
    if kind == "clip" and side:
        given["pixels"] = normal(side, side, 3)
    if kind in ("clip", "diffusion_prior"):
        return given

    side = side if kind == "noised_classifier" else min(SIDE, side)  # its pool takes no others
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


def drawn_tokens(rng: np.random.Generator, vocab_size: int, place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As a tokenizer would give them: the last has the highest id, as CLIP's end of text, and padding is 0.

    place: int "B L", behind the last token of a row, which is at -1.
    """
    drawn = rng.integers(1, vocab_size - 1, place.shape)
    return np.where(place < -1, drawn, np.where(place == -1, vocab_size - 1, 0)), place < 0


def ours(stage: PublishedStage, weights: Weights, given: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The answers of the network here, in float32: what a CLIP says of picture and caption, "answer" of any other, and
    the prior's without standardisation, "embedding"."""
    kind, module = stage.spec.kind, network_of(stage)
    params = import_params(weights.tensors, weights.rules, parameter_shapes(module), what=stage.name)

    @jax.jit
    def answers(params, given):
        if kind == "clip":
            return clip_answers(module.bind({"params": params}), given)
        args, kwargs = arguments_of(kind, given)
        answer = {"answer": module.apply({"params": params}, *args, **kwargs)}
        if kind == "diffusion_prior":
            answer["embedding"] = EmbeddingStatistics.from_extras(stage.extras).unstandardize(answer["answer"])
        return answer

    with jax.default_matmul_precision("highest"):  # on an accelerator float32 may be multiplied as less
        return {name: np.asarray(answer) for name, answer in answers(params, dict(given)).items()}


def clip_answers(clip: nn.Module, given: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    text = clip.encode_text(given["tokens"])
    answers = {"pooled": text.pooled, "sequence": text.sequence}
    if "pixels" in given:
        answers |= {"image": clip.encode_image(given["pixels"]), "scale": clip.cosine_scale()}
    return answers


def arguments_of(kind: str, given: Mapping[str, jax.Array]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Those of a network of this kind, by place and by name."""
    x, t = given.get("x"), given["t"]
    if kind in ("diffusion_prior", "decoder"):
        text = TextFeatures(given["pooled"], given["sequence"], given["mask"])
        if kind == "diffusion_prior":
            return (given["z"], t, text), {}
        return (x, t, given["z"], text), {"drop_image": given["drop"]}
    if kind == "upsampler":
        return (x, t, given["low_res"]), {}
    seen = jnp.concatenate(behind(given), axis=-1)
    if kind == "glide":
        return (x, t, given["tokens"], given["mask"]), {"extra_channels": seen}
    labels = {"labels": given["labels"]} if "labels" in given else {}
    return (jnp.concatenate([x, seen], axis=-1), t), labels


def behind(given: Mapping[str, jax.Array]) -> list[jax.Array]:
    """What stands behind the noised picture's channels, in its order; first a part of no channels."""
    parts = [given["x"][..., :0]]
    if "known" in given:
        parts += [given["known"] * given["known_mask"], given["known_mask"]]
    if "low_res" in given:
        parts.append(images.resize(given["low_res"], given["x"].shape[1], method="bilinear"))
    return parts


def theirs(
    family: str, stage: PublishedStage, given: Mapping[str, np.ndarray], *, is_last: bool
) -> dict[str, np.ndarray]:
    """The answers of the code that the weights came with, by the names of `ours`."""
    from tests.golden import published_peers

    return published_peers.answers(family, stage, given, is_last=is_last)


def difference(found: np.ndarray, right: np.ndarray) -> float:
    """The largest, over the largest number of `right`; NaN where a number is. Raises ValueError for other shapes."""
    if found.shape != right.shape:
        raise ValueError(f"the answer is {list(found.shape)}, and the original's {list(right.shape)}")
    return float(np.max(np.abs(found - right)) / np.max(np.abs(right)))


def compare(model: Model) -> Iterator[tuple[str, dict[str, float]]]:
    """Of each network a line with its size, and the difference of each answer; one network in memory at a time."""
    published = model.published
    for stage in published.stages:
        given = inputs(stage, model.tokens)
        for is_last, weights in enumerate(filter(None, (stage.weights, stage.last))):
            right = theirs(published.family, stage, given, is_last=bool(is_last))
            gc.collect()  # modules of PyTorch refer to themselves, and would stay beside the next network
            found = ours(stage, weights, given)
            name = f"{stage.name}, last step" if is_last else stage.name
            count = sum(math.prod(tensor.shape) for tensor in weights.tensors.values())
            line = f"{name}: {len(weights.tensors):,} tensors, {count:,} parameters"
            yield line, {answer: difference(found[answer], right[answer]) for answer in right}


def is_near(distance: float) -> bool:
    """Not of NaN."""
    return distance <= LIMIT


def weight_files(model: Model) -> list[pathlib.Path]:
    """The files that the networks are read from, and of Karlo's own the statistics."""
    sources = [pathlib.Path(stage.source) for stage in model.published.stages]
    if all(source.is_file() for source in sources):
        return sources + sorted(model.path.glob(f"{karlo_files.STATISTICS}*"))
    names = [path.relative_to(model.path).as_posix() for path in model.path.rglob("*") if path.is_file()]
    return [model.path / name for name in hub.wanted(names) if name.endswith(hub.WEIGHTS)]


def row(model: Model) -> str:
    """The line for README's table: family, what was checked, and when."""
    files = weight_files(model)
    root = model.path if model.path.is_dir() else model.path.parent
    said = ", ".join(f"`{file.relative_to(root).as_posix()}` sha256 {sha256(file)}" for file in files)
    checked = f"checked with the published file{'s' if len(files) > 1 else ''}"
    return f"| {model.published.family} | {checked} | {said} | {datetime.date.today().isoformat()} |"


def sha256(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="check_published_weights", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", metavar="SOURCE", help="a published model: its file, or its folder")
    parser.add_argument("--peer", metavar="PATH", help="a clone of the repository that the weights came with")
    parser.add_argument("--clip", metavar="PATH", help="the CLIP of Karlo's own files, which is checked too")
    parser.add_argument("--tokenizer", metavar="PATH", help="where none lies beside the weights; else tokens are drawn")
    arguments = vars(parser.parse_args(argv))
    try:
        models = find_models(arguments.pop("source"), **arguments)
    except (ValueError, OSError) as error:
        print(f"check_published_weights: {first_line(error)}", file=sys.stderr)
        return 2
    far = False
    for model in models:
        print(f"{model.published.family}, {model.path}, against {PEERS[model.published.family][0].split('.')[0]}")
        for line, differences in compare(model):
            print(line)
            for answer, distance in differences.items():
                far |= not is_near(distance)
                verdict = "OK" if is_near(distance) else f"too far: more than {LIMIT:.0e}"
                print(f"  {answer}: {distance:.1e} of the largest, {verdict}", flush=True)
    if far:
        print("check_published_weights: answers differ from the original code's", file=sys.stderr)
        return 1
    print('\nFor the table in README.md, "Published weights":')
    print(*map(row, models), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
