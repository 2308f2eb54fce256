"""`unclip train`: trains one stage, and goes on where it stopped."""

import argparse

from unclip_jax.commands import compilation_cache

EXAMPLE = """example:
  unclip train --config=configs/shapes/decoder.py --workdir=runs/decoder --config.optimizer.learning_rate=1e-4

--config.SECTION.FIELD=VALUE sets one field of the config. Run again with the same workdir, it resumes from the newest
checkpoint."""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "train",
        help="train a stage",
        description="Trains one stage of a cascade.",
        epilog=EXAMPLE,
    )
    parser.add_argument("--config", required=True, metavar="FILE[:X]", help="a Python file with get_config()")
    parser.add_argument("--workdir", required=True, metavar="DIR", help="checkpoints, metrics and previews go here")
    # `--config.SECTION.FIELD=VALUE`: argparse cannot know every field, so these arrive apart, as `overrides`.
    parser.set_defaults(run=run, dotted="config", overrides=())


def run(args: argparse.Namespace) -> int:
    from unclip_jax import experiment

    compilation_cache.enable(collectives=True)
    config = experiment.load_config(args.config, args.overrides)
    step = experiment.train_stage(config, args.workdir)
    print(f"{config.task.stage}: {step} steps, in {args.workdir}")
    return 0
