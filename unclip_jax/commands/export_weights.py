"""The command `unclip export-weights`: exports a cascade for diffusers, or its CLIP for transformers."""

import argparse

EXAMPLE = """examples:
  unclip export-weights shapes --format diffusers --out shapes-diffusers
  unclip export-weights shapes --format clip --out shapes-clip

The first command writes a folder for diffusers' UnCLIPPipeline and prints a call with the steps and guidance scales of
the cascade. The second command writes a folder for transformers' CLIPModel."""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds the parser of `unclip export-weights`."""
    parser = subparsers.add_parser(
        "export-weights",
        help="export a cascade for diffusers, or its CLIP model for transformers",
        description="Exports the weights of a cascade as float32 in the layout of diffusers or transformers.",
        epilog=EXAMPLE,
    )
    parser.add_argument("cascade", metavar="CASCADE", help="bundled name or cascade folder")
    parser.add_argument(
        "--format", required=True, metavar="F", help="diffusers (UnCLIPPipeline) or clip (transformers' CLIPModel)"
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="output folder; must not exist")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs `unclip export-weights` and returns the exit code."""
    import jax
    from etils import epath

    from unclip_jax.cascades import export
    from unclip_jax.cascades.embedding import locate_clip
    from unclip_jax.cascades.folder import open_folder, read_stages
    from unclip_jax.cascades.sources import resolve
    from unclip_jax.errors import choose

    export_to = choose(export.FORMATS, args.format, "--format")
    if epath.Path(args.out).exists():
        raise ValueError(f"--out must be a new folder, got {args.out!r}, which already exists.")
    source = resolve(args.cascade)
    name = locate_clip(source)[1]
    cascade = open_folder(
        source, stages=[name] if export_to.clip_alone else None, devices=jax.local_devices()[:1], dtype="float32"
    )
    clip = read_stages(source).get(name)
    lines = export_to.write(cascade, None if clip is None else clip.tokenizer, args.out)
    print(f"{export_to.title}: in {args.out}", *lines, sep="\n")
    return 0
