"""Words and templates of training captions."""

from unclip_jax.data.captioned_shapes.scene import COLOURS, SHAPES

SIZE_WORDS = {"small": ("small", "small", "little"), "large": ("large", "large", "big")}
RELATION_WORDS = {
    "left of": ("left of", "to the left of"),
    "right of": ("right of", "to the right of"),
    "above": ("above", "over"),
    "below": ("below", "under"),
}
# Phrases after the first and the second object, which together express a relation.
SIDE_WORDS = {
    "left of": ("on the left", "on the right"),
    "right of": ("on the right", "on the left"),
    "above": ("at the top", "at the bottom"),
    "below": ("at the bottom", "at the top"),
}
JOINTS = ("{0} and {1}", "{0} and {1}", "{0} next to {1}", "{0} with {1}", "{0}, {1}")  # without a relation
FRAMES = ("{it}", "{it}", "{it}", "a picture of {it}", "an image of {it}", "a drawing of {it}", "there is {it}")
FRAMES_WITH_BACKGROUND = (
    "{it} on {a} {background} background",
    "{it} on {a} {background} background",
    "{it} on {a} {background} background",
    "{it} against {a} {background} background",
    "{it} in front of {a} {background} background",
    "{it} with {a} {background} background",
    "{it} on {background}",
    "on {a} {background} background, {it}",
    "{background} background with {it}",
    "a picture of {it} on {a} {background} background",
    "an image of {it} on {background}",
    "a drawing of {it} on {a} {background} background",
    "there is {it} on {a} {background} background",
    "{a} {background} picture with {it} in it",
)

# A loose caption is a sequence of clauses in any order, with filler words that describe nothing.
CLAUSES = {
    "shape": ("{}", "{}", "a {}", "the {}", "shape {}", "this is a {}", "{} shape"),
    "colour": ("{}", "{}", "{}", "in {}", "it is {}", "painted {}", "that looks {}"),
    "size": ("{}", "{}", "{}", "it is {}", "size {}", "quite {}"),
    "background": ("on {}", "background {}", "{} background", "{} in the background", "backdrop {}", "{} behind it"),
}
SEPARATORS = (" ", " ", " ", ", ", ", ", ". ", "; ", ": ", " - ", " / ", "! ")
MARKS = tuple(separator for separator in SEPARATORS if separator.strip())
ENDS = ("", "", "", ".", "!", "?", "...")
_FILLERS = (
    "show me you see we need like make could would my your this that some here now then so and for kids with only "
    "really very nice simple plain clean flat new single photo sketch icon logo art paint thanks hello today maybe"
)
FILLERS = tuple(_FILLERS.split())


def vocabulary() -> frozenset[str]:
    """Returns every word that a training caption can contain."""
    texts = [*COLOURS, *SHAPES, *JOINTS, *FRAMES, *FRAMES_WITH_BACKGROUND, "a an the that is and shape"]
    texts += [*FILLERS, *(clause for clauses in CLAUSES.values() for clause in clauses)]
    for group in (SIZE_WORDS, RELATION_WORDS, SIDE_WORDS):
        texts += [text for words in group.values() for text in words]
    words = " ".join(texts).replace(",", " ").split()
    return frozenset(word for word in words if not word.startswith("{"))
