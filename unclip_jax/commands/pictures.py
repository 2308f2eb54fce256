"""What the commands that make pictures have in common: their flags, and where the pictures go."""

import argparse
import ast
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any


def add_flags(parser: argparse.ArgumentParser, *, count: str, out: str) -> None:
    """count: what `--count` counts, such as "pictures of each prompt".  out: what `--out` is by default."""
    parser.add_argument(
        "--cascade", default="shapes", metavar="C",
        help="a bundled name, a folder, or a published model's folder or hub's name (default: shapes)",
    )  # fmt: skip
    parser.add_argument("--count", type=int, default=1, metavar="N", help=f"{count} (default: 1)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of all noise (default: 0)")
    parser.add_argument(
        "--first-image", type=int, default=0, metavar="K", help="number of the first picture, to make later ones alone"
    )
    parser.add_argument(
        "--out",
        metavar="FILE.png|DIR",
        help=f"one PNG, a grid where there are several pictures, or a folder of PNGs (default: {out})",
    )
    parser.add_argument("--decoder-scale", type=float, metavar="X", help="the decoder's guidance; 1: none")
    parser.add_argument(
        "--steps",
        metavar="STAGE=N,...",
        help="sampling steps, such as prior=64,decoder=250; or a path: decoder=fast27, =10,10,3,2,2 or =ddim50",
    )
    parser.add_argument("--sampler", metavar="STAGE=NAME,...", help="ddpm, ddim or dpm, such as decoder=ddim")
    parser.add_argument(
        "--sampling",
        action="append",
        default=[],
        metavar="STAGE.FIELD=VALUE",
        help="any other setting, such as decoder.guidance_rescale=0.7, decoder.guidance_interval=100,900, "
        "decoder.threshold=99.5, decoder.variance=fixed_large, decoder.eta=0.5, or decoder.candidates=4: pictures "
        "drawn for each, of which CLIP takes the one nearest to the prompt; may be repeated",
    )


def flags_of(args: argparse.Namespace) -> dict[str, Any]:
    """What `add_flags` added, but for --cascade and --out, as arguments of the library's functions."""
    return {
        "count": args.count,
        "seed": args.seed,
        "first_image": args.first_image,
        "decoder_scale": args.decoder_scale,
        "steps": _pairs("--steps", args.steps, "decoder=50"),
        "sampler": _pairs("--sampler", args.sampler, "decoder=ddim"),
        "sampling": _settings(args.sampling),
    }


def check_out(name: str):
    """The path to write to. Raises ValueError, before anything is sampled, where nothing could be written there."""
    from etils import epath

    from unclip_jax import files

    path = epath.Path(name)
    if path.suffix not in ("", ".png"):
        raise ValueError(f"--out {name!r} ends in {path.suffix!r}; give a .png, or a folder's name without a suffix")
    if path.suffix == ".png" and path.is_dir():
        raise ValueError(f"--out {name!r} is a folder; give a .png file, or a folder's name without a suffix")
    if path.suffix == ".png" and not path.parent.is_dir():
        what = "a file" if path.parent.exists() else "missing"
        raise ValueError(f"--out {name!r} is to lie in {str(path.parent)!r}, which is {what}; name an existing folder")
    try:
        if path.suffix == "":
            path.mkdir(parents=True, exist_ok=True)
        files.check_writable(path / "picture.png" if path.suffix == "" else path)
    except OSError as error:
        raise ValueError(f"--out {name!r} cannot be written ({error.strerror}); name another place") from error
    return path


def default_name(prompt: str) -> str:
    """A file name made of the prompt."""
    return (re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")[:80].strip("-") or "picture") + ".png"


def write(
    out,
    pictures,
    labels: Sequence[str],
    args: argparse.Namespace,
    settings: Mapping[str, Any],
    *,
    about: str,
    columns: int | None = None,
) -> list[str]:
    """Writes the pictures to `out` (see `check_out`), with metadata. Returns the paths.

    Args:
      labels: of each picture, what it was made of; the text entry `about` (such as "prompt") says it.
      settings: every stage's sampling.
      columns: of a grid; None: as square as can be.
    """
    from unclip_jax import __version__, images

    def metadata(shown: Sequence[str], first_image: int) -> dict[str, str]:
        return {
            about: "\n".join(dict.fromkeys(shown)),
            "seed": str(args.seed),
            "first_image": str(first_image),
            "count": str(args.count),
            "cascade": args.cascade,
            "settings": json.dumps({name: vars(stage) for name, stage in settings.items()}),
            "software": f"unclip_jax {__version__}",
        }

    if out.suffix == ".png":
        images.write_png(out, images.grid(pictures, columns=columns), metadata(labels, args.first_image))
        return [str(out)]
    paths = []
    for place, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        number = args.first_image + place
        path = out / f"{number:05d}-{default_name(label)}"
        images.write_png(path, picture, metadata([label], number))
        paths.append(str(path))
    return paths


def _pairs(flag: str, text: str | None, example: str) -> dict[str, int | str] | None:
    """"a=1,b=x,y" as {"a": 1, "b": "x,y"}: a part without a stage belongs to the value before it."""
    if text is None:
        return None
    pairs: dict[str, str] = {}
    for part in text.split(","):
        name, separator, value = part.partition("=")
        if separator and name.strip() and value.strip():
            pairs[name.strip()] = value.strip()
        elif pairs and not separator and part.strip():
            last = next(reversed(pairs))
            pairs[last] += f",{part.strip()}"
        else:
            raise ValueError(f"{flag} {text!r}: {part!r} is no pair STAGE=VALUE, such as {example}")
    return {name: int(value) if value.lstrip("-").isdecimal() else value for name, value in pairs.items()}


def _settings(given: Sequence[str]) -> dict[str, dict[str, Any]]:
    """["a.b=1"] as {"a": {"b": 1}}."""
    settings: dict[str, dict[str, Any]] = {}
    for text in given:
        name, separator, value = text.partition("=")
        stage, dot, field = name.strip().partition(".")
        if not (separator and dot and stage and field and value.strip()):
            raise ValueError(f"--sampling {text!r} is not STAGE.FIELD=VALUE, such as decoder.guidance_rescale=0.7")
        settings.setdefault(stage, {})[field] = _value(value.strip())
    return settings


def _value(text: str) -> Any:
    """A number, two numbers, or the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
