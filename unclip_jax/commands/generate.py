"""`unclip generate`: pictures from prompts."""

import argparse
import ast
import json
import re
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from unclip_jax.commands import compilation_cache

EXAMPLE = """examples:
  unclip generate "a small red circle on a blue background" --out circle.png
  unclip generate "a star" "a ring" --count 4 --seed 7 --decoder-scale 2 --steps prior=32,decoder=100 --out pictures

One picture of 256 px takes a second or two on two cores, after a minute of compiling that is done once."""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "generate",
        help="pictures from prompts",
        description="Makes pictures from prompts. Each PNG holds its prompt, seed and settings as metadata.",
        epilog=EXAMPLE,
    )
    parser.add_argument("prompts", nargs="+", metavar="PROMPT", help="what the pictures show")
    parser.add_argument("--cascade", default="shapes", metavar="C", help="a bundled name or a folder (default: shapes)")
    parser.add_argument("--count", type=int, default=1, metavar="N", help="pictures of each prompt (default: 1)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of all noise (default: 0)")
    parser.add_argument(
        "--first-image", type=int, default=0, metavar="K", help="number of the first picture, to make later ones alone"
    )
    parser.add_argument(
        "--out",
        metavar="FILE.png|DIR",
        help="one PNG, a grid where there are several pictures, or a folder of PNGs (default: named after the prompt)",
    )
    parser.add_argument("--prior-scale", type=float, metavar="X", help="the prior's guidance; 1: none")
    parser.add_argument("--decoder-scale", type=float, metavar="X", help="the decoder's guidance; 1: none")
    parser.add_argument(
        "--steps",
        metavar="STAGE=N,...",
        help="sampling steps, such as prior=64,decoder=250; or a path: decoder=fast27, =10,10,3,2,2 or =ddim50",
    )
    parser.add_argument("--sampler", metavar="STAGE=NAME,...", help="ddpm, ddim or dpm, such as decoder=ddim")
    parser.add_argument("--candidates", type=int, metavar="N", help="embeddings the prior draws for each picture")
    parser.add_argument(
        "--sampling",
        action="append",
        default=[],
        metavar="STAGE.FIELD=VALUE",
        help="any other setting, such as decoder.guidance_rescale=0.7, decoder.guidance_interval=100,900, "
        "decoder.threshold=99.5, decoder.variance=fixed_large, decoder.eta=0.5; may be repeated",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    out = check_out(args.out if args.out is not None else default_name(args.prompts[0]))
    steps = _pairs("--steps", args.steps, "decoder=50")
    sampler = _pairs("--sampler", args.sampler, "decoder=ddim")
    compilation_cache.enable()

    import unclip_jax
    from unclip_jax.cascades import text_to_image as module

    cascade = unclip_jax.load_cascade(args.cascade)
    settings = {
        "count": args.count,
        "seed": args.seed,
        "first_image": args.first_image,
        "prior_scale": args.prior_scale,
        "decoder_scale": args.decoder_scale,
        "steps": steps,
        "sampler": sampler,
        "candidates": args.candidates,
        "sampling": _settings(args.sampling),
    }
    plan = module.check(cascade, args.prompts, **settings)
    with warnings.catch_warnings(), _StageBars() as bars:
        warnings.showwarning = _one_line_warning
        pictures = unclip_jax.text_to_image(cascade, args.prompts, **settings, progress=bars)
    prompts = [prompt for prompt in args.prompts for _ in range(args.count)]
    stages = {name: vars(stage) for name, stage in plan.items()}
    for path in _write(out, pictures, prompts, args, stages):
        print(path)
    return 0


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


def _write(out, pictures, prompts: Sequence[str], args: argparse.Namespace, stages: dict) -> list[str]:
    from unclip_jax import __version__, images

    def metadata(shown: Sequence[str], first_image: int) -> dict[str, str]:
        return {
            "prompt": "\n".join(dict.fromkeys(shown)),
            "seed": str(args.seed),
            "first_image": str(first_image),
            "count": str(args.count),
            "cascade": args.cascade,
            "settings": json.dumps(stages),
            "software": f"unclip_jax {__version__}",
        }

    if out.suffix == ".png":
        columns = args.count if len(args.prompts) > 1 and args.count > 1 else None
        images.write_png(out, images.grid(pictures, columns=columns), metadata(prompts, args.first_image))
        return [str(out)]
    paths = []
    for place, (picture, prompt) in enumerate(zip(pictures, prompts, strict=True)):
        number = args.first_image + place
        path = out / f"{number:05d}-{default_name(prompt)}"
        images.write_png(path, picture, metadata([prompt], number))
        paths.append(str(path))
    return paths


class _StageBars:
    """A progress bar on stderr for the stage that is running; only on a terminal."""

    def __init__(self):
        self._bar, self._stage = None, None

    def __enter__(self) -> "_StageBars":
        return self

    def __call__(self, stage: str, done: int, total: int) -> None:
        from tqdm import tqdm

        if stage != self._stage:
            self.__exit__()
            self._bar, self._stage = tqdm(total=total, desc=stage, unit="step", leave=False, disable=None), stage
        self._bar.update(done - self._bar.n)

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.close()


def _one_line_warning(message, category, filename, lineno, file=None, line=None) -> None:
    print(f"unclip generate: warning: {message}", file=sys.stderr)
