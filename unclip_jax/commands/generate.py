"""`unclip generate`: pictures from prompts."""

import argparse

from unclip_jax.commands import compilation_cache, pictures, terminal

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
    pictures.add_flags(parser, count="pictures of each prompt", out="named after the prompt")
    parser.add_argument("--prior-scale", type=float, metavar="X", help="the prior's guidance; 1: none")
    parser.add_argument("--candidates", type=int, metavar="N", help="embeddings the prior draws for each picture")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    out = pictures.check_out(args.out if args.out is not None else pictures.default_name(args.prompts[0]))
    settings = pictures.flags_of(args) | {"prior_scale": args.prior_scale, "candidates": args.candidates}
    compilation_cache.enable()

    import unclip_jax
    from unclip_jax.cascades import text_to_image as module

    cascade = unclip_jax.load_cascade(args.cascade)
    plan = module.check(cascade, args.prompts, **settings)
    with terminal.one_line_warnings("generate"), terminal.StageBars() as bars:
        made = unclip_jax.text_to_image(cascade, args.prompts, **settings, progress=bars)
    prompts = [prompt for prompt in args.prompts for _ in range(args.count)]
    columns = args.count if len(args.prompts) > 1 and args.count > 1 else None
    for path in pictures.write(out, made, prompts, args, plan, about="prompt", columns=columns):
        print(path)
    return 0
