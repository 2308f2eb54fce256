"""The command `unclip train`: trains one stage, or resumes its training."""

import argparse

from unclip_jax.commands import compilation_cache

EXAMPLE = """example:
  unclip train --config=configs/shapes/decoder.py --workdir=runs/decoder \\
      --config.optimizer.learning_rate=1e-4

--config.SECTION.FIELD=VALUE sets one field of the config. To resume from the latest
checkpoint, run the command again with the same workdir."""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds the parser of `unclip train`."""
    parser = subparsers.add_parser(
        "train",
        help="train a stage",
        description="Trains one stage of a cascade.",
        epilog=EXAMPLE,
    )
    parser.add_argument(
        "--config", required=True, metavar="FILE[:X]", help="Python file that defines get_config(); X is its argument"
    )
    parser.add_argument("--workdir", required=True, metavar="DIR", help="folder for checkpoints, metrics and previews")
    # argparse cannot declare all fields, so `--config.SECTION.FIELD=VALUE` is parsed separately into `overrides`.
    parser.set_defaults(run=run, dotted="config", overrides=())


def run(args: argparse.Namespace) -> int:
    """Runs `unclip train` and returns the exit code."""
    from unclip_jax import experiment

    compilation_cache.enable(collectives=True)
    config = experiment.load_config(args.config, args.overrides)
    step = experiment.train_stage(config, args.workdir)
    print(f"{config.task.stage}: {step} steps, in {args.workdir}")
    return 0
