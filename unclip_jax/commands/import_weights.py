"""The command `unclip import-weights`: converts published weights to a cascade folder."""

import argparse

EXAMPLE = """examples:
  unclip import-weights kakaobrain/karlo-v1-alpha --out runs/karlo
  unclip import-weights karlo/ --clip openai/clip-vit-large-patch14 --out runs/karlo
  unclip import-weights ViT-L-14.pt --tokenizer openai/clip-vit-large-patch14 --out runs/clip

SOURCE is a file, a folder, or the id of a repository on the Hugging Face Hub. Code in its files is never executed.
Commands that expect a cascade also accept a SOURCE. Local files are read without network access."""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds the parser of `unclip import-weights`."""
    parser = subparsers.add_parser(
        "import-weights",
        help="convert published weights to a cascade folder",
        description="Converts published weights to a cascade folder. Every tensor keeps its data type.",
        epilog=EXAMPLE,
    )
    parser.add_argument("source", metavar="SOURCE", help="file, folder or hub id")
    parser.add_argument("--out", required=True, metavar="CASCADE", help="output folder; must not exist")
    parser.add_argument("--clip", metavar="SOURCE", help="CLIP model, if SOURCE includes none")
    parser.add_argument(
        "--tokenizer", metavar="SOURCE", help="folder or hub id of the tokenizer, if SOURCE includes none"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs `unclip import-weights` and returns the exit code."""
    from unclip_jax.cascades.published import recognize, write_published
    from unclip_jax.folder_update import is_new

    if not is_new(args.out):
        raise ValueError(f"--out must be a new folder, got {args.out!r}, which already exists.")
    published = recognize(args.source, clip=args.clip, tokenizer=args.tokenizer)
    print(f"{args.source}: {published.family}")
    for name in write_published(published, args.out):
        print(f"{name}: in {args.out}")
    return 0
