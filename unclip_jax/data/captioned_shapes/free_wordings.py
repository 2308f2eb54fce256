"""Free wordings, which occur in no training caption, to measure generalization to other texts."""

import re

from unclip_jax.data.captioned_shapes.scene import COLOURS, SHAPES
from unclip_jax.data.captioned_shapes.wordings import SIZE_WORDS

# Each wording with the attributes that it names. {Colour} is replaced by a capitalized word and {COLOUR} by a word in
# capitals. Sizes are always "small" or "large".
FREE_WORDINGS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("{shape}, {colour}", ("shape", "colour")),
    ("{Shape}: {colour}, {size}", ("shape", "colour", "size")),
    ("{SIZE} {COLOUR} {SHAPE}", ("shape", "colour", "size")),
    ("{colour} {shape}!", ("shape", "colour")),
    ("{Background} background. {Colour} {shape}.", ("shape", "colour", "background")),
    ("{shape} {colour} {size}", ("shape", "colour", "size")),
    ("just a {shape}", ("shape",)),
    ("The {shape} is {colour}", ("shape", "colour")),
    ("the {shape} is {size} and the background is {background}", ("shape", "size", "background")),
    ("{Size}, {colour}: a {shape}", ("shape", "colour", "size")),
    ("on {background}: {shape}, {colour}", ("shape", "colour", "background")),
    ("{shape} ({colour})", ("shape", "colour")),
    ("{shape}; background {background}", ("shape", "background")),
    ("Background: {background}. Shape: {shape}. Colour: {colour}.", ("shape", "colour", "background")),
    ("one {size} {shape}, {colour}", ("shape", "colour", "size")),
    ("please draw {shape} in {colour}", ("shape", "colour")),
    ("a {shape}, and it is {size}!", ("shape", "size")),
    ("{COLOUR}! {SHAPE}!", ("shape", "colour")),
    ("{background} everywhere, but {shape} is {colour}", ("shape", "colour", "background")),
    ("i want a {size} {shape}", ("shape", "size")),
)


def is_free_wording(text: str) -> bool:
    """Returns whether a text is one of the free wordings with any attribute values, ignoring case."""
    return _FREE_WORDING.fullmatch(text.lower()) is not None


def _pattern(wording: str) -> str:
    """Returns a regular expression for a wording, whose fields match every word for their attribute."""
    sizes = [word for words in SIZE_WORDS.values() for word in words]
    words = {"shape": SHAPES, "size": sizes, "colour": COLOURS, "background": COLOURS}
    return (
        re.escape(wording.lower())
        .replace(r"\{", "{")
        .replace(r"\}", "}")
        .format(**{name: f"({'|'.join(known)})" for name, known in words.items()})
    )


_FREE_WORDING = re.compile("|".join(_pattern(wording) for wording, _ in FREE_WORDINGS))
