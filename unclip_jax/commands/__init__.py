"""Subcommands of `unclip`, one file each.

Every module of a command defines two functions:

    add_parser(subparsers)    adds the parser, with an example as its epilog and `set_defaults(run=run)`
    run(args) -> int          runs the command and returns the exit code

Slow imports (jax, and everything that imports it) belong in `run`, so that `--help` returns immediately. For invalid
input, `run` raises ValueError or OSError with a one-line message, which `unclip_jax.__main__` prints.

A command with config overrides (`--config.section.name=value`) sets the defaults `dotted="config"` and `overrides=()`.
`args.overrides` then contains each override as "section.name=value".
"""
