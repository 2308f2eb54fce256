"""The verbs of the `unclip` command, a file for each.

Every module here has two functions:

    add_parser(subparsers)    adds its parser, with an example as its epilog and `set_defaults(run=run)`
    run(args) -> int          does the work and returns the exit code

and imports what is slow (jax, and all that imports it) inside `run`, so that `--help` answers at once. A user's mistake
is raised as ValueError or OSError, with one line that says what would be right; `unclip_jax.__main__` prints it.
A command whose config can be overridden (`--config.section.name=value`) has a positional argument `overrides` and the
default `dotted="config"`; it then finds "section.name=value" in `args.overrides`.
"""
