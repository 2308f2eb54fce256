"""`unclip import-weights`: a published model becomes a cascade folder."""

import argparse

EXAMPLE = """examples:
  unclip import-weights kakaobrain/karlo-v1-alpha --out runs/karlo
  unclip import-weights karlo/ --clip openai/clip-vit-large-patch14 --out runs/karlo
  unclip import-weights ViT-L-14.pt --tokenizer openai/clip-vit-large-patch14 --out runs/clip

A SOURCE is a file, a folder, or a repository's name on the Hugging Face hub. Nothing that a file says is executed.
Whatever reads a cascade reads a SOURCE too; a folder of one's own is read without the hub."""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "import-weights",
        help="a published model becomes a cascade folder",
        description="Writes a published model's weights, each tensor in its own type, as a cascade folder.",
        epilog=EXAMPLE,
    )
    parser.add_argument("source", metavar="SOURCE", help="a file, a folder, or a hub's name")
    parser.add_argument("--out", required=True, metavar="CASCADE", help="the cascade folder, a new one")
    parser.add_argument("--clip", metavar="SOURCE", help="the CLIP of a model that brings none")
    parser.add_argument("--tokenizer", metavar="SOURCE", help="a folder with the tokenizer, or a hub's name")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from unclip_jax.cascades.published import recognize, write_published
    from unclip_jax.folder_update import is_new

    if not is_new(args.out):
        raise ValueError(f"--out {args.out!r} is there already; name a new folder")
    published = recognize(args.source, clip=args.clip, tokenizer=args.tokenizer)
    print(f"{args.source}: {published.family}")
    for name in write_published(published, args.out):
        print(f"{name}: in {args.out}")
    return 0
