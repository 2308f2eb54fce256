"""The command `unclip prepare-data`: prepares a dataset before training."""

import argparse

from unclip_jax.data.captioned_shapes.dataset_sizes import DATASET_SIZES, SPLITS

EXAMPLE = """examples:
  unclip prepare-data shapes --dir /data/unclip
  unclip prepare-data embeddings --config=configs/shapes/diffusion_prior.py --out=runs/embeddings

`unclip train` generates captioned shapes automatically if they are missing."""

EMBEDDINGS_EXAMPLE = """example:
  unclip prepare-data embeddings --config=configs/shapes/diffusion_prior.py --out=runs/embeddings
  unclip train --config=configs/shapes/diffusion_prior.py --workdir=runs/prior \\
      --config.data.source=embeddings --config.data.dir=runs/embeddings

The images come from config.data and the CLIP model from config.encoders.clip.
Training fails if the config of the prior has a different CLIP model or other
image settings than the stored embeddings. --config.SECTION.FIELD=VALUE overrides
a field of the config."""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds the parser of `unclip prepare-data`, with a subcommand for each dataset."""
    parser = subparsers.add_parser(
        "prepare-data",
        help="generate captioned shapes or precompute CLIP embeddings",
        description="Prepares a dataset before training.",
        epilog=EXAMPLE,
    )
    datasets = parser.add_subparsers(dest="data", metavar="DATA", required=True)
    shapes = datasets.add_parser(
        "shapes",
        help="generate captioned shapes (130 MB, about two minutes)",
        description="Generates the captioned-shapes dataset (130 MB, about two minutes).",
    )
    shapes.add_argument(
        "--dir",
        metavar="DIR",
        help="data folder (default: $UNCLIP_CACHE, or ~/.cache/unclip_jax)",
    )
    shapes.add_argument(
        "--size",
        default="full",
        choices=list(DATASET_SIZES),
        help="variant of the dataset; contrasts: for CLIP, with negative captions and unnamed colors; recoloured: for "
        "the decoder, half in unnamed colors; tiny, contrasts_tiny: a few records for tests (default: full)",
    )
    shapes.set_defaults(run=run_shapes, parser=shapes)

    embeddings = datasets.add_parser(
        "embeddings",
        help="precompute CLIP image embeddings and captions for training the prior",
        description="Precomputes CLIP image embeddings and stores them with their captions,\nfor training the prior.",
        epilog=EMBEDDINGS_EXAMPLE,
    )
    embeddings.add_argument(
        "--config", required=True, metavar="FILE", help="config of the prior, a Python file with get_config()"
    )
    embeddings.add_argument("--out", required=True, metavar="DIR", help="output folder; must not exist")
    embeddings.set_defaults(run=run_embeddings, parser=embeddings, dotted="config", overrides=())


def run_shapes(args: argparse.Namespace) -> int:
    """Runs `unclip prepare-data shapes` and returns the exit code."""
    from unclip_jax.data.captioned_shapes import builder

    path = builder.prepare(args.dir, size=args.size)
    print(path)
    for split in SPLITS:
        records = builder.data_source(split, args.dir, size=args.size)
        print(f"{split:15}{len(records):>8,}")
    return 0


def run_embeddings(args: argparse.Namespace) -> int:
    """Runs `unclip prepare-data embeddings` and returns the exit code."""
    from unclip_jax import experiment
    from unclip_jax.commands import compilation_cache

    compilation_cache.enable()
    splits = experiment.store_embeddings(experiment.load_config(args.config, args.overrides), args.out)
    for split, counts in splits.items():
        skipped = f"  ({counts['unreadable']:,} unreadable records skipped)" if counts["unreadable"] else ""
        print(f"{split:15}{counts['records']:>8,}{skipped}")
    print(args.out)
    return 0
