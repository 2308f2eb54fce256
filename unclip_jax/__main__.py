"""Entry point of the `unclip` command: selects a command, parses its arguments and runs it.

Only the module of the requested command is imported. `unclip --help` lists the others from `COMMANDS`.
"""

import argparse
import difflib
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from unclip_jax import __version__, huge_pages

# Command: (module in unclip_jax.commands, summary in `unclip --help`).
COMMANDS = {
    "generate": ("generate", "generate images from prompts or class labels"),
    "variations": ("variations", "generate variations of an image"),
    "train": ("train", "train a stage, or resume its training"),
    "package": ("package", "package trained stages as a cascade folder"),
    "import-weights": ("import_weights", "convert a published model to a cascade folder"),
    "export-weights": ("export_weights", "convert a cascade to a diffusers or transformers folder"),
    "evaluate": ("evaluate", "evaluate a cascade"),
    "prepare-data": ("prepare_data", "generate captioned shapes or precompute CLIP embeddings"),
    "doctor": ("doctor", "report versions, devices and cache folders"),
}

EXAMPLE = """example:
  unclip generate "a small red circle on a blue background" --out circle.png

Run `unclip COMMAND --help` for the options of a command. Set the environment
variable UNCLIP_TRACEBACK=1 to print tracebacks of errors.
"""


class _Parser(argparse.ArgumentParser):
    """Argument parser that prints one-line errors, rejects abbreviated flags and keeps line breaks."""

    def __init__(self, **settings):
        settings = {"allow_abbrev": False, "formatter_class": argparse.RawDescriptionHelpFormatter} | settings
        super().__init__(**settings)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}. See `{self.prog} --help`.\n")

    def reject(self, unknown: list[str]) -> NoReturn:
        """Exits with an error that lists the unknown arguments, a similar flag if there is one, and all flags."""
        available = [flag for flag in self._option_string_actions if flag.startswith("--")]
        closest = difflib.get_close_matches(unknown[0].split("=")[0], available, n=1, cutoff=0.7)
        hint = f" (did you mean {closest[0]}?)" if closest else ""
        self.error(f"unknown argument {' '.join(unknown)}{hint}. Available: {', '.join(available)}")


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = _Parser(
        prog="unclip",
        description="DALL-E 2 (unCLIP) in JAX: training, image generation and evaluation.",
        epilog=EXAMPLE,
    )
    parser.add_argument("--version", action="version", version=f"unclip_jax {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    first = next((word for word in argv if not word.startswith("-")), None)
    requested, _ = COMMANDS.get(first, (None, None))
    for name, (module, summary) in COMMANDS.items():
        if module != requested:
            subparsers.add_parser(name, help=summary)
        elif name not in subparsers.choices:  # one module may define several commands
            importlib.import_module(f"unclip_jax.commands.{module}").add_parser(subparsers)
    args, rest = parser.parse_known_args(argv)
    if hasattr(args, "dotted"):
        # argparse cannot declare these flags, because their names depend on the fields of the config.
        prefix = f"--{args.dotted}."
        args.overrides = [*args.overrides, *(word[len(prefix) :] for word in rest if word.startswith(prefix))]
        rest = [word for word in rest if not word.startswith(prefix)]
    if rest:
        getattr(args, "parser", subparsers.choices[args.command]).reject(rest)  # subcommands set `parser`
    return args


def _one_line(error: Exception) -> str:
    """Returns an error message on one line, which for an OSError is only its cause and file name."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.strerror}: {str(error.filename)!r}"
    return " ".join(str(error).split()) or type(error).__name__


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command.

    ValueError and OSError mean invalid input, and FloatingPointError means that training diverged. They are printed on
    one line, unless UNCLIP_TRACEBACK is set. Any other exception is an internal error and propagates.

    Args:
      argv: Command-line arguments without the program name. If None, `sys.argv[1:]`.

    Returns:
      The exit code: that of the command, 2 for invalid input or diverged training, 130 if interrupted.

    Raises:
      SystemExit: For --help and --version (code 0), and for invalid arguments (code 2).
    """
    # transformers is used for tokenizers only, but advises every user to install PyTorch.
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    args = _parse(sys.argv[1:] if argv is None else argv)
    try:
        return args.run(args) or 0
    except KeyboardInterrupt:
        print(f"\nunclip {args.command}: interrupted", file=sys.stderr)
        return 130
    except (ValueError, OSError, FloatingPointError) as error:
        if os.environ.get("UNCLIP_TRACEBACK"):
            raise
        print(f"unclip {args.command}: {_one_line(error)}", file=sys.stderr)
        return 2


def command() -> NoReturn:
    """Runs `unclip` as the console script, with huge pages if available."""
    huge_pages.begin_anew()
    sys.exit(main())


if __name__ == "__main__":
    command()
