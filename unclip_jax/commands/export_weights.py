"""`unclip export-weights`: a cascade for diffusers, or its CLIP for transformers."""

import argparse

EXAMPLE = """examples:
  unclip export-weights shapes --format diffusers --out shapes-diffusers
  unclip export-weights shapes --format clip --out shapes-clip

The first is opened by diffusers' UnCLIPPipeline, and the call that draws as the cascade does is printed; the second by
transformers' CLIPModel."""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "export-weights",
        help="a cascade becomes a folder for diffusers",
        description="Writes a cascade's weights, float32, in the layout of other people's code.",
        epilog=EXAMPLE,
    )
    parser.add_argument("cascade", metavar="CASCADE", help="a bundled name, or a cascade folder")
    parser.add_argument(
        "--format", required=True, metavar="F", help="diffusers: an UnCLIPPipeline; clip: transformers' CLIPModel"
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="the folder to write, a new one")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    import jax
    from etils import epath

    from unclip_jax.cascades import export
    from unclip_jax.cascades.embedding import locate_clip
    from unclip_jax.cascades.folder import open_folder, read_stages
    from unclip_jax.cascades.sources import resolve

    if args.format not in export.FORMATS:
        raise ValueError(f"--format {args.format!r} is unknown; known: {', '.join(export.FORMATS)}")
    if epath.Path(args.out).exists():
        raise ValueError(f"--out {args.out!r} is there already; name a new folder")
    source = resolve(args.cascade)
    name = locate_clip(source)[1]
    export_to = export.FORMATS[args.format]
    cascade = open_folder(
        source, stages=[name] if export_to.clip_alone else None, devices=jax.local_devices()[:1], dtype="float32"
    )
    clip = read_stages(source).get(name)
    lines = export_to.write(cascade, None if clip is None else clip.tokenizer, args.out)
    print(f"{export_to.title}: in {args.out}", *lines, sep="\n")
    return 0
