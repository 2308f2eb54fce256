"""The `unclip` command: finds the verb, parses, calls, and turns a user's mistake into one line and exit code 2.

Only the module of the verb that was asked for is imported; of the others `unclip --help` needs no more than the lines
in `COMMANDS`.
"""

import argparse
import difflib
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from unclip_jax import __version__, huge_pages

# Verb -> (module in unclip_jax.commands, what it does in one line).
COMMANDS = {
    "generate": ("generate", "pictures from prompts"),
    "variations": ("variations", "pictures with what CLIP sees in a given one"),
    "train": ("train", "train one stage, or go on with it"),
    "package": ("package", "trained stages become a cascade folder"),
    "import-weights": ("import_weights", "a published model becomes a cascade folder"),
    "export-weights": ("export_weights", "a cascade becomes a folder for diffusers"),
    "evaluate": ("evaluate", "measure how good a cascade is"),
    "prepare-data": ("prepare_data", "make or fetch the data that stages are trained on"),
    "doctor": ("doctor", "what this machine has, and whether it can be used"),
}

EXAMPLE = """example:
  unclip generate "a small red circle on a blue background" --out circle.png

`unclip COMMAND --help` explains one command. UNCLIP_TRACEBACK=1 in the environment shows where an error came from.
"""


class _Parser(argparse.ArgumentParser):
    """argparse with errors of one line, flags that are never guessed from a beginning, and examples left as written."""

    def __init__(self, **settings):
        settings = {"allow_abbrev": False, "formatter_class": argparse.RawDescriptionHelpFormatter} | settings
        super().__init__(**settings)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}. See `{self.prog} --help`.\n")

    def reject(self, unknown: list[str]) -> NoReturn:
        """Ends with a line that names what was not understood, the nearest known flag, and all known flags."""
        known = [flag for flag in self._option_string_actions if flag.startswith("--")]
        nearest = difflib.get_close_matches(unknown[0].split("=")[0], known, n=1, cutoff=0.7)
        meant = f" (did you mean {nearest[0]}?)" if nearest else ""
        self.error(f"unknown argument {' '.join(unknown)}{meant}. Known: {', '.join(known)}")


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = _Parser(
        prog="unclip",
        description="DALL-E 2 (unCLIP) in JAX: train the stages, make pictures, measure them.",
        epilog=EXAMPLE,
    )
    parser.add_argument("--version", action="version", version=f"unclip_jax {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    first = next((word for word in argv if not word.startswith("-")), None)
    wanted, _ = COMMANDS.get(first, (None, None))
    for verb, (module, summary) in COMMANDS.items():
        if module != wanted:
            subparsers.add_parser(verb, help=summary)
        elif verb not in subparsers.choices:  # one module may hold a family of verbs
            importlib.import_module(f"unclip_jax.commands.{module}").add_parser(subparsers)
    args, rest = parser.parse_known_args(argv)
    if hasattr(args, "dotted"):
        # argparse cannot know these flags: each field of the config is one.
        beginning = f"--{args.dotted}."
        args.overrides = [*args.overrides, *(word[len(beginning) :] for word in rest if word.startswith(beginning))]
        rest = [word for word in rest if not word.startswith(beginning)]
    if rest:
        getattr(args, "parser", subparsers.choices[args.command]).reject(rest)  # a verb's own verb says which it is
    return args


def _one_line(error: Exception) -> str:
    """An error's message without line breaks. Of an OSError the cause and the file: "[Errno 2]" helps nobody."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.strerror}: {str(error.filename)!r}"
    return " ".join(str(error).split()) or type(error).__name__


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line. Returns the exit code: 0 done, 2 wrong input (one line on stderr), 130 interrupted.

    ValueError and OSError are how the package says that what it was given is wrong, FloatingPointError that a training
    cannot go on with its settings. Any other exception is a fault of the program and comes with its traceback.
    """
    # transformers, of which only tokenizers are used, would advise every user to install torch.
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
    """`unclip` as a process of its own."""
    huge_pages.begin_anew()
    sys.exit(main())


if __name__ == "__main__":
    command()
