"""`unclip prepare-data`: makes a data set on this machine, ahead of the training that reads it."""

import argparse

from unclip_jax.data.captioned_shapes.dataset_sizes import DATASET_SIZES, SPLITS

EXAMPLE = """examples:
  unclip prepare-data shapes --dir /data/unclip
  unclip prepare-data embeddings --config=configs/shapes/diffusion_prior.py --out=runs/embeddings

A training prepares captioned shapes by itself; this does it ahead of time."""

EMBEDDINGS_EXAMPLE = """example:
  unclip prepare-data embeddings --config=configs/shapes/diffusion_prior.py --out=runs/embeddings
  unclip train --config=configs/shapes/diffusion_prior.py --workdir=runs/prior \\
      --config.data.source=embeddings --config.data.dir=runs/embeddings

The images are those of config.data, the CLIP is config.encoders.clip. A prior that is trained with another CLIP or on
other pixels than the stored ones is refused. --config.SECTION.FIELD=VALUE sets one field of the config."""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "prepare-data", help="make a data set", description="Makes a data set on this machine.", epilog=EXAMPLE
    )
    kinds = parser.add_subparsers(dest="data", metavar="DATA", required=True)
    shapes = kinds.add_parser(
        "shapes",
        help="captioned shapes, 130 MB, drawn in about two minutes",
        description="Draws captioned shapes, 130 MB, in about two minutes.",
    )
    shapes.add_argument("--dir", metavar="DIR", help="where it goes ($UNCLIP_CACHE, or ~/.cache/unclip_jax)")
    shapes.add_argument(
        "--size",
        default="full",
        choices=list(DATASET_SIZES),
        help="contrasts: what CLIP learns from, with wrong captions and further colours; recoloured: what the decoder "
        "learns from, half in further colours; tiny: a few records",
    )
    shapes.set_defaults(run=run_shapes, parser=shapes)

    embeddings = kinds.add_parser(
        "embeddings",
        help="CLIP embeddings of pictures, stored beside their captions, for the prior to train on",
        description="Stores CLIP embeddings of pictures beside their captions, for the prior to train on.",
        epilog=EMBEDDINGS_EXAMPLE,
    )
    embeddings.add_argument("--config", required=True, metavar="FILE", help="the prior's: a Python file, get_config()")
    embeddings.add_argument("--out", required=True, metavar="DIR", help="a new folder")
    embeddings.set_defaults(run=run_embeddings, parser=embeddings, dotted="config", overrides=())


def run_shapes(args: argparse.Namespace) -> int:
    from unclip_jax.data.captioned_shapes import builder

    path = builder.prepare(args.dir, size=args.size)
    print(path)
    for split in SPLITS:
        records = builder.data_source(split, args.dir, size=args.size)
        print(f"{split:15}{len(records):>8,}")
    return 0


def run_embeddings(args: argparse.Namespace) -> int:
    from unclip_jax import experiment
    from unclip_jax.commands import compilation_cache

    compilation_cache.enable()
    splits = experiment.store_embeddings(experiment.load_config(args.config, args.overrides), args.out)
    for split, counts in splits.items():
        left_out = f"  ({counts['unreadable']:,} could not be read)" if counts["unreadable"] else ""
        print(f"{split:15}{counts['records']:>8,}{left_out}")
    print(args.out)
    return 0
