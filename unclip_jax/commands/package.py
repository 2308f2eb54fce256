"""The command `unclip package`: writes trained stages to a cascade folder."""

import argparse

EXAMPLE = """examples:
  unclip package runs/clip --out runs/shapes
  unclip package runs/diffusion_prior runs/decoder runs/upsampler_16_to_64 --out runs/shapes
  unclip package runs/diffusion_prior runs/decoder --clip shapes --out runs/own

The EMA parameters are written as float16. Packaging a stage again replaces it and
keeps the other stages of the cascade."""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds the parser of `unclip package`."""
    parser = subparsers.add_parser(
        "package",
        help="package trained stages as a cascade folder",
        description="Writes trained stages to a new or existing cascade folder.",
        epilog=EXAMPLE,
    )
    parser.add_argument("workdirs", nargs="*", metavar="WORKDIR", help="workdir of a trained stage; repeatable")
    parser.add_argument("--out", required=True, metavar="CASCADE", help="cascade folder to create or update")
    parser.add_argument(
        "--clip",
        metavar="CASCADE",
        help="also include the CLIP model of this cascade (bundled name or folder)",
    )
    parser.add_argument(
        "--description",
        "--draws",
        metavar="TEXT",
        help='what the cascade can generate, as one line that completes "It generates TEXT."',
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs `unclip package` and returns the exit code."""
    from unclip_jax import experiment

    if not args.workdirs and args.clip is None:
        raise ValueError("nothing to package. Pass at least one WORKDIR or --clip.")
    for name in experiment.package(args.workdirs, args.out, clip=args.clip, description=args.description):
        print(f"{name}: in {args.out}")
    return 0
