"""`unclip prepare-data`: makes a data set on this machine, ahead of the training that would make it."""

import argparse

EXAMPLE = """example:
  unclip prepare-data shapes --dir /data/unclip

A training prepares its data by itself; this does it ahead of time."""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "prepare-data",
        help="make a data set",
        description="Makes a data set on this machine.",
        epilog=EXAMPLE,
    )
    parser.add_argument("data", choices=["shapes"], help="shapes: captioned shapes, 130 MB, drawn in about two minutes")
    parser.add_argument("--dir", metavar="DIR", help="where it goes ($UNCLIP_CACHE, or ~/.cache/unclip_jax)")
    parser.add_argument("--size", default="full", choices=["full", "tiny"], help="tiny: a few records, to try things")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from unclip_jax.data.captioned_shapes import builder

    path = builder.prepare(args.dir, size=args.size)
    print(path)
    for split in builder.SPLITS:
        records = builder.data_source(split, args.dir, size=args.size)
        print(f"{split:15}{len(records):>8,}")
    return 0
