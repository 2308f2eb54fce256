"""`unclip export-weights`: writes a cascade for diffusers, or its CLIP for transformers."""

import argparse

EXAMPLE = """examples:
  unclip export-weights shapes --format diffusers --out shapes-diffusers
  unclip export-weights shapes --format clip --out shapes-clip

The first writes a folder for UnCLIPPipeline of diffusers and prints the call that samples like the cascade. The second
writes a folder for CLIPModel of transformers."""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "export-weights",
        help="convert a cascade to a folder for diffusers",
        description="Writes the weights of a cascade as float32 in the layout of diffusers or transformers.",
        epilog=EXAMPLE,
    )
    parser.add_argument("cascade", metavar="CASCADE", help="bundled name or cascade folder")
    parser.add_argument(
        "--format", required=True, metavar="F", help="diffusers (UnCLIPPipeline) or clip (CLIPModel of transformers)"
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="output folder; must not exist")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    import jax
    from etils import epath

    from unclip_jax.cascades import export
    from unclip_jax.cascades.embedding import locate_clip
    from unclip_jax.cascades.folder import open_folder, read_stages
    from unclip_jax.cascades.sources import resolve
    from unclip_jax.errors import choose

    export_to = choose(export.FORMATS, args.format, "--format")
    if epath.Path(args.out).exists():
        raise ValueError(f"--out must be a new folder, got {args.out!r}, which exists.")
    source = resolve(args.cascade)
    name = locate_clip(source)[1]
    cascade = open_folder(
        source, stages=[name] if export_to.clip_alone else None, devices=jax.local_devices()[:1], dtype="float32"
    )
    clip = read_stages(source).get(name)
    lines = export_to.write(cascade, None if clip is None else clip.tokenizer, args.out)
    print(f"{export_to.title}: in {args.out}", *lines, sep="\n")
    return 0
