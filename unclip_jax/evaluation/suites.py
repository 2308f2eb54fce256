"""Suites: several measures of one subject, a row at a time.

The `shapes` suite asks for pictures of captioned shapes and reads them back:

    one_object      one object, in (shape, colour) pairs that training showed
    two_objects     two objects and their relation
    compositional   one object, in pairs that no training showed
    embedding_only  the captions of one_object through the prior; the decoder is given the empty caption
    true_embedding  the CLIP embeddings of true pictures of one_object's scenes; the decoder is given the empty caption
    from_16px       true 16 px pictures of one_object's scenes, enlarged by both upsamplers
    from_64px       true 64 px pictures of them, enlarged by the last
    reader          true pictures: what the reader itself gets right
    free_wording    one object, worded as no training caption is, with one to three attributes named
    shuffled        one_object's pictures against each other's captions, beside what chance would give
    diversity       spread of the object's place over the pictures of one prompt, divided by the data's
    flatness        how even the areas and how clean the edges of one_object's pictures are, beside true pictures
    unnamed         colours, sizes and backgrounds of pictures whose prompts name the shape alone, beside the data's
    upsampler_...   one upsampler alone, given true low-resolution pictures
    clip_retrieval  held-out pictures found by their captions, and captions by their pictures
    clip_attributes true pictures of one_object's scenes: how often CLIP finds the caption that names their shape among
                    those that differ in the shape alone; so for colour, size and background
    prior_cosine    the prior's embeddings against those of true pictures

Rows that share a scene also share the picture's number and so its noise: they differ by the stage left out and by
nothing else. Picture i of a row is what its prompt gives with the suite's seed as picture number i.
"""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from unclip_jax import images
from unclip_jax.arrays import Float, UInt8
from unclip_jax.data.captioned_shapes.captions import Caption
from unclip_jax.data.captioned_shapes.drawing import draw, thumbnail
from unclip_jax.data.captioned_shapes.scene import COLOURS, SHAPES, SIZES, Scene, sample_scene
from unclip_jax.data.transforms import low_resolution
from unclip_jax.evaluation import diversity, embedding_quality, shapes_accuracy
from unclip_jax.evaluation.shapes_accuracy import judge, read_all, summarise
from unclip_jax.evaluation.shapes_prompts import Prompt, draw_prompts, likewise_placed, stream
from unclip_jax.evaluation.subject import Progress, Subject, no_progress
from unclip_jax.evaluation.upsampling_quality import UpsamplingQuality, flat, upsampling_quality

SUITES = ("shapes",)
ACCURACY_ROWS = (
    "one_object",
    "two_objects",
    "compositional",
    "embedding_only",
    "true_embedding",
    "from_16px",
    "from_64px",
    "reader",
    "free_wording",
    "shuffled",
)
UPSAMPLER_ROWS = {"upsampler_16_to_64": 64, "upsampler_64_to_256": 256}
STAGE_ROWS = ("clip_retrieval", "clip_attributes", "prior_cosine")
SHAPES_ROWS = (*ACCURACY_ROWS, "diversity", "flatness", "unnamed", *UPSAMPLER_ROWS, *STAGE_ROWS)

BATCH = 32  # prompts of one call; a power of two, which is what a sampler pads to
READER_SCENES = 2000
DIVERSITY_PROMPTS, DIVERSITY_PICTURES = 16, 8
DATA_GROUPS = 32  # groups of DIVERSITY_PICTURES scenes for each prompt's share of the data's spread
ATTRIBUTE_VALUES = {"shape": SHAPES, "colour": COLOURS, "size": SIZES, "background": COLOURS}
CAPTION = "a {size} {colour} {shape} on a {background} background"
UNNAMED_PICTURES, UNNAMED_SCENES = 64, 4096
FACTOR = 4  # of an upsampler's sides


def shapes(
    subject: Subject,
    *,
    seed: int = 0,
    prompts: int = 200,
    rows: Sequence[str] = SHAPES_ROWS,
    progress: Progress = no_progress,
) -> Iterator[tuple[str, Any]]:
    """Runs the chosen rows in the suite's order and yields (row, result) as each is done.

    A result is a dict that JSON can hold: of an accuracy row `accuracy`, `n`, `interval` and `attributes` (see
    shapes_accuracy; `shuffled` has `chance` too), of another row the fields of the dataclass that it is made of.

    Args:
      seed: draws the scenes, the wordings and the noise.
      prompts: pictures, or pairs, of each row, at least 2; `reader` and `diversity` take numbers of their own.

    Raises ValueError, before anything is made, for an unknown row or too few prompts.
    """
    check_rows(rows)
    if prompts < 2:
        raise ValueError(f"prompts is {prompts}; a row needs at least 2")
    suite = _Shapes(subject, seed, prompts, progress)
    return ((row, suite.run(row)) for row in SHAPES_ROWS if row in rows)


def check_rows(rows: Sequence[str]) -> None:
    """Raises ValueError unless there are rows, and all are rows of the shapes suite."""
    unknown = [row for row in rows if row not in SHAPES_ROWS]
    if unknown or not rows:
        what = f"unknown: {', '.join(map(repr, unknown))}" if unknown else "empty"
        raise ValueError(f"rows {what}; known: {', '.join(SHAPES_ROWS)}")


class _Shapes:
    """One run of the shapes suite; a method for each kind of row."""

    def __init__(self, subject: Subject, seed: int, prompts: int, progress: Progress):
        self.subject, self.seed, self.prompts, self.progress = subject, seed, prompts, progress

    def run(self, row: str) -> dict[str, Any]:
        if row in UPSAMPLER_ROWS:
            return dataclasses.asdict(self.upsampler(row, UPSAMPLER_ROWS[row]))
        result = getattr(self, row)()
        return result if isinstance(result, dict) else dataclasses.asdict(result)

    def one_object(self) -> shapes_accuracy.Accuracy:
        prompts, seen, _ = self._one_object
        return _accuracy(seen, prompts)

    def two_objects(self) -> shapes_accuracy.Accuracy:
        return self._drawn("two_objects")

    def compositional(self) -> shapes_accuracy.Accuracy:
        return self._drawn("compositional")

    def free_wording(self) -> shapes_accuracy.Accuracy:
        return self._drawn("free_wording")

    def embedding_only(self) -> shapes_accuracy.Accuracy:
        prompts = draw_prompts("one_object", self.prompts, self.seed)
        return _accuracy(self._read("embedding_only", _texts(prompts), empty_caption=True), prompts)

    def true_embedding(self) -> shapes_accuracy.Accuracy:
        prompts = draw_prompts("one_object", self.prompts, self.seed)
        embeddings = self._embed_scenes("true_embedding", prompts)
        seen = self._read("true_embedding", _texts(prompts), image_embeddings=embeddings, empty_caption=True)
        return _accuracy(seen, prompts)

    def from_16px(self) -> shapes_accuracy.Accuracy:
        return self._enlarged("from_16px", [64, 256])

    def from_64px(self) -> shapes_accuracy.Accuracy:
        return self._enlarged("from_64px", [256])

    def reader(self) -> shapes_accuracy.Accuracy:
        prompts = draw_prompts("any", READER_SCENES, self.seed)
        seen: list[Scene | None] = []
        for _, batch in self._batches("reader", prompts):
            seen += read_all([draw(prompt.scene) for prompt in batch])
        return _accuracy(seen, prompts)

    def shuffled(self) -> dict[str, Any]:
        """In a random circle, every picture is held against the caption of the next: no caption meets its own."""
        prompts, seen, _ = self._one_object
        circle = stream("shuffled", self.seed).permutation(len(prompts))
        others = [prompts[place] for place in np.roll(circle, 1)]
        accuracy = _accuracy([seen[place] for place in circle], others)
        chance = shapes_accuracy.chance(*_captions_and_scenes(prompts))
        return {
            **dataclasses.asdict(accuracy),
            "chance": {"accuracy": chance.accuracy, "attributes": chance.attributes},
        }

    def diversity(self) -> dict[str, Any]:
        """`ratio` is None where no prompt had two readable pictures. Spreads in pixels."""
        prompts = draw_prompts("one_object", min(DIVERSITY_PROMPTS, self.prompts), self.seed)
        seen = self._read("diversity", [text for text in _texts(prompts) for _ in range(DIVERSITY_PICTURES)])
        groups = [
            diversity.centres(seen[at : at + DIVERSITY_PICTURES]) for at in range(0, len(seen), DIVERSITY_PICTURES)
        ]
        generated, data = diversity.mean_spread(groups), diversity.mean_spread(self._data_groups(prompts))
        return {
            "ratio": None if generated is None else generated / data,
            "spread": generated,
            "spread_of_data": data,
            "prompts": sum(len(group) >= 2 for group in groups),
            "pictures": sum(map(len, groups)),
        }

    def flatness(self) -> dict[str, Any]:
        """Shares of flat pixels (see upsampling_quality) of the pictures that could be read, by the colours that they
        were read to show, and of the true pictures of the same prompts. `share` is None where none could be read."""
        prompts, _, shares = self._one_object
        true = [flat(draw(prompt.scene), _colours(prompt.scene)) for prompt in prompts]
        return {
            "share": float(np.mean(shares)) if shares else None,
            "share_of_true": float(np.mean(true)),
            "n": len(shares),
        }

    def unnamed(self) -> dict[str, Any]:
        """`shares` and `shares_of_data`: of each attribute that no prompt names, each value's share, over the `n`
        readable pictures of one object and over the data's scenes of one."""
        texts = [f"a {SHAPES[place % len(SHAPES)]}" for place in range(UNNAMED_PICTURES)]
        seen = [scene for scene in self._read("unnamed", texts) if scene and len(scene.objects) == 1]
        rng = stream("unnamed, data", self.seed)
        data = [sample_scene(rng, num_objects=1) for _ in range(UNNAMED_SCENES)]
        return {"n": len(seen), "shares": _value_shares(seen), "shares_of_data": _value_shares(data)}

    def upsampler(self, row: str, size: int) -> UpsamplingQuality:
        """One stage alone: from true pictures shrunk and blurred as its training shrinks and blurs them."""
        rng = stream(row, self.seed)
        scenes = [sample_scene(rng) for _ in range(self.prompts)]
        true = np.stack([_true_picture(scene, size) for scene in scenes])
        made, bicubic = [], []
        for start, batch in self._batches(row, true):
            small = np.stack([upsampler_input(picture) for picture in batch])
            made.append(np.asarray(self.subject.upsample(small, size=size, seed=self.seed, first_image=start)))
            bicubic.append(np.asarray(images.to_uint8(images.resize(small, size))))
        return upsampling_quality(np.concatenate(made), np.concatenate(bicubic), true, list(map(_colours, scenes)))

    def clip_retrieval(self) -> embedding_quality.Retrieval:
        """Among scenes of which no two have the same content, so that every caption has one picture."""
        prompts = draw_prompts("any", self.prompts, self.seed, distinct=True)
        image = self._embed_scenes("clip_retrieval", prompts)
        return embedding_quality.retrieval(image, self.subject.encode_text(_texts(prompts)))

    def clip_attributes(self) -> dict[str, Any]:
        """`attributes`: of each, the share of the `n` pictures that are nearest to their own value."""
        prompts = draw_prompts("one_object", self.prompts, self.seed)
        image = self._embed_scenes("clip_attributes", prompts)
        own = [_attributes(prompt.scene) for prompt in prompts]
        shares = {}
        for attribute, values in ATTRIBUTE_VALUES.items():
            texts = [[CAPTION.format(**{**said, attribute: value}) for value in values] for said in own]
            known = sorted({text for row in texts for text in row})
            place = {text: number for number, text in enumerate(known)}
            embeddings = self.subject.encode_text(known)[[[place[text] for text in row] for row in texts]]
            right = [list(values).index(said[attribute]) for said in own]
            shares[attribute] = float(np.mean(embedding_quality.choices(image, embeddings) == right))
        return {"n": len(prompts), "attributes": shares}

    def prior_cosine(self) -> embedding_quality.PriorCosine:
        prompts = draw_prompts("any", self.prompts, self.seed, distinct=True)
        true = self._embed_scenes("prior_cosine", prompts)
        generated = [
            self.subject.sample_prior(_texts(batch), seed=self.seed, first_image=start)
            for start, batch in self._batches("prior_cosine", prompts)
        ]
        return embedding_quality.prior_cosine(np.concatenate(generated), true)

    @functools.cached_property
    def _one_object(self) -> tuple[list[Prompt], list[Scene | None], list[float]]:
        """The prompts, what their pictures show, and the shares of flat pixels of those that could be read. Kept, for
        several rows look at the same pictures."""
        prompts = draw_prompts("one_object", self.prompts, self.seed)
        seen: list[Scene | None] = []
        shares = []
        for pictures in self._made("one_object", _texts(prompts)):
            read = read_all(pictures)
            seen += read
            shares += [flat(picture, _colours(scene)) for picture, scene in zip(pictures, read, strict=True) if scene]
        return prompts, seen, shares

    def _enlarged(self, row: str, sizes: list[int]) -> shapes_accuracy.Accuracy:
        """True pictures of one object, shrunk to a quarter of the first size and enlarged to one after the other."""
        prompts = draw_prompts("one_object", self.prompts, self.seed)
        seen: list[Scene | None] = []
        for start, batch in self._batches(row, prompts):
            low_res = np.stack([upsampler_input(_true_picture(prompt.scene, sizes[0])) for prompt in batch])
            for size in sizes:
                pictures = self.subject.upsample(low_res, size=size, seed=self.seed, first_image=start)
                low_res = images.to_unit(pictures)
            seen += read_all(pictures)
        return _accuracy(seen, prompts)

    def _drawn(self, selection: str) -> shapes_accuracy.Accuracy:
        prompts = draw_prompts(selection, self.prompts, self.seed)
        return _accuracy(self._read(selection, _texts(prompts)), prompts)

    def _read(self, row: str, texts: list[str], **given: Any) -> list[Scene | None]:
        """What is read from one picture for each prompt; `given`: see `_made`."""
        return [scene for pictures in self._made(row, texts, **given) for scene in read_all(pictures)]

    def _made(
        self,
        row: str,
        texts: list[str],
        *,
        image_embeddings: Float["N E"] | None = None,
        empty_caption: bool = False,
    ) -> Iterator[UInt8["B H W 3"]]:
        """One picture for each prompt, in batches."""
        for start, batch in self._batches(row, texts):
            yield self.subject.make_pictures(
                batch,
                seed=self.seed,
                first_image=start,
                image_embeddings=None if image_embeddings is None else image_embeddings[start : start + len(batch)],
                empty_caption=empty_caption,
            )

    def _embed_scenes(self, row: str, prompts: list[Prompt]) -> Float["N E"]:
        """CLIP's embeddings of the scenes' true pictures."""
        batches = (prompts[at : at + BATCH] for at in range(0, len(prompts), BATCH))
        return np.concatenate(
            [self.subject.encode_image(np.stack([draw(prompt.scene) for prompt in batch])) for batch in batches]
        )

    def _data_groups(self, prompts: list[Prompt]) -> list[list[tuple[float, float]]]:
        """Centres in groups as large as those of the pictures, for the root of a variance depends on their number."""
        rng = stream("diversity of data", self.seed)
        return [
            [(item.x, item.y) for item in likewise_placed(prompt.scene.objects[0], DIVERSITY_PICTURES, rng)]
            for prompt in prompts
            for _ in range(DATA_GROUPS)
        ]

    def _batches(self, row: str, items: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """(number of the first, items) of each batch, telling the progress."""
        self.progress(row, 0, len(items))
        for start in range(0, len(items), BATCH):
            batch = items[start : start + BATCH]
            yield start, batch
            self.progress(row, start + len(batch), len(items))


def upsampler_input(picture: UInt8["H W 3"]) -> Float["h w 3"]:
    """A picture shrunk to a quarter of its side, in [-1, 1]: what the stage before it would have made."""
    return low_resolution(picture, FACTOR)


def _true_picture(scene: Scene, size: int) -> UInt8["H W 3"]:
    picture = draw(scene)
    return picture if size == picture.shape[0] else thumbnail(picture)


def _colours(scene: Scene) -> list[tuple[int, int, int]]:
    return [COLOURS[name] for name in (scene.background, *(item.colour for item in scene.objects))]


def _value_shares(scenes: Sequence[Scene]) -> dict[str, dict[str, float]]:
    """How often each colour, size and background occurs in scenes of one object; every share 0 for no scenes."""
    seen = [_attributes(scene) for scene in scenes]
    return {
        attribute: {
            value: sum(found[attribute] == value for found in seen) / max(len(seen), 1)
            for value in ATTRIBUTE_VALUES[attribute]
        }
        for attribute in ("colour", "size", "background")
    }


def _attributes(scene: Scene) -> dict[str, str]:
    """What a scene of one object shows, by attribute."""
    return {**dataclasses.asdict(scene.objects[0]), "background": scene.background}


def _texts(prompts: Sequence[Prompt]) -> list[str]:
    return [prompt.caption.text for prompt in prompts]


def _captions_and_scenes(prompts: Sequence[Prompt]) -> tuple[list[Caption], list[Scene]]:
    return [prompt.caption for prompt in prompts], [prompt.scene for prompt in prompts]


def _accuracy(seen: Sequence[Scene | None], prompts: Sequence[Prompt]) -> shapes_accuracy.Accuracy:
    return summarise([judge(scene, prompt.caption) for scene, prompt in zip(seen, prompts, strict=True)])
