"""`unclip generate`: pictures from prompts, or of classes."""

import argparse
import functools

from unclip_jax.commands import compilation_cache, pictures, terminal

EXAMPLE = """examples:
  unclip generate "a small red circle on a blue background" --out circle.png
  unclip generate "a star" "a ring" --count 4 --seed 7 --decoder-scale 2 --steps prior=32,decoder=100 --out pictures

  unclip generate --cascade 64x64_diffusion.pt --class 207 --class 281 --count 4 --out pictures

One picture of 256 px takes a second or two on two cores, after a minute of compiling that is done once."""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "generate",
        help="pictures from prompts",
        description="Makes pictures from prompts. Each PNG holds its prompt, seed and settings as metadata.",
        epilog=EXAMPLE,
    )
    parser.add_argument("prompts", nargs="*", metavar="PROMPT", help="what the pictures show")
    parser.add_argument(
        "--class", type=int, action="append", dest="classes", metavar="N",
        help="in place of prompts, for a cascade that knows classes: one of them, from 0; may be repeated",
    )  # fmt: skip
    pictures.add_flags(parser, count="pictures of each prompt or class", out="named after the prompt")
    parser.add_argument("--prior-scale", type=float, metavar="X", help="the prior's guidance; 1: none")
    parser.add_argument("--prior", metavar="STAGE", help="prior to use, if the cascade has several (default: first)")
    parser.add_argument("--candidates", type=int, metavar="N", help="embeddings the prior draws for each it gives on")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    if args.prompts and args.classes:
        raise ValueError(f"--class {args.classes[0]} and prompt {args.prompts[0]!r} are given; one sort is wanted")
    names = args.prompts or [f"class {number}" for number in args.classes or ()]
    out = pictures.check_out(args.out if args.out is not None else pictures.default_name(names[0] if names else ""))
    compilation_cache.enable()

    import unclip_jax
    from unclip_jax.cascades.class_to_image import plan_class_to_image
    from unclip_jax.cascades.generate import generate
    from unclip_jax.cascades.priors import stages_with_prior
    from unclip_jax.cascades.text_to_image import plan_text_to_image

    cascade = unclip_jax.load_cascade(args.cascade, stages=functools.partial(stages_with_prior, prior=args.prior))
    # Without prompts and classes: a network that knows neither draws, any other says what it needs.
    settings = pictures.flags_of(args) | {"prior_scale": args.prior_scale, "candidates": args.candidates}
    settings["prior"] = args.prior
    if args.prompts:
        plan = plan_text_to_image(cascade, args.prompts, **settings)
    else:
        plan = plan_class_to_image(cascade, args.classes, **settings)
    with terminal.one_line_warnings("generate"), terminal.StageBars() as bars:
        made = generate(plan, low_memory=True, progress=bars)
    labels = [name for name in names or ["picture"] for _ in range(args.count)]
    columns = args.count if len(names) > 1 and args.count > 1 else None
    about = "prompt" if args.prompts else "class"
    for path in pictures.write(out, made, labels, args, plan.settings, about=about, columns=columns):
        print(path)
    return 0
