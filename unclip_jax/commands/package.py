"""`unclip package`: trained stages become a cascade folder."""

import argparse

EXAMPLE = """examples:
  unclip package runs/clip --out runs/shapes
  unclip package runs/diffusion_prior runs/decoder runs/upsampler_16_to_64 --out runs/shapes
  unclip package runs/diffusion_prior runs/decoder --clip shapes --out runs/own

The averaged parameters are written as float16. A stage that is in the cascade already is replaced, the others stay."""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "package",
        help="trained stages become a cascade folder",
        description="Writes trained stages into a cascade folder, a new one or one that is there.",
        epilog=EXAMPLE,
    )
    parser.add_argument("workdirs", nargs="*", metavar="WORKDIR", help="where a stage was trained")
    parser.add_argument("--out", required=True, metavar="CASCADE", help="the cascade folder")
    parser.add_argument("--clip", metavar="CASCADE", help="take the CLIP of this cascade (a name or a folder) along")
    parser.add_argument(
        "--description",
        "--draws",
        metavar="TEXT",
        help='what the cascade can generate, in one line, as in "It generates TEXT."',
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from unclip_jax import experiment

    if not args.workdirs and args.clip is None:
        raise ValueError("neither a WORKDIR nor --clip is given; name what is to be packaged")
    for name in experiment.package(args.workdirs, args.out, clip=args.clip, description=args.description):
        print(f"{name}: in {args.out}")
    return 0
