"""The typed description of a stage: the same in a training config, in a saved cascade and in memory."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from unclip_jax import fields
from unclip_jax.diffusion.settings import SamplingSettings
from unclip_jax.diffusion.spec import DiffusionSpec

SCHEMA = 2
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
RESERVED = ("tokenizer",)
Size = int | tuple[int, int]


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncoderRef:
    """The frozen encoder that a stage was trained with.

    Attributes:
      stage: Name of the encoder's stage in the cascade.
      digest: Digest of its parameters in float32 (see `parameters.digest`). None if not recorded.
    """

    stage: str
    digest: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class StageSpec:
    """Everything that describes a stage, except its arrays.

    Attributes:
      name: Name of the stage in its cascade, such as "upsampler_16_to_64": letters, digits and underscores. It seeds
        the noise of the stage.
      kind: Name of the stage kind, see `unclip_jax.kinds`.
      model: Fields of the network.
      encoders: For each role that the kind names, the encoder that fills it.
      low_res_size: Size (height, width) of the images that the stage upsamples; an int means a square. If None, the
        stage does not upsample.
      mask_channels: Whether the network receives the known region of an edited image and its mask.
      diffusion: Noise schedule and parameterization. None for kinds that do not sample by diffusion.
      sampling: Default sampler settings, of the class that the kind names: `SamplingSettings` for diffusion. None for
        kinds that are not sampled.
      last_step_params: Whether the last sampling step has parameters of its own, as in Karlo's upsampler.
      provenance: How the stage was trained, as JSON; None if unknown.
    """

    name: str
    kind: str
    model: Mapping[str, Any]
    encoders: Mapping[str, EncoderRef] = dataclasses.field(default_factory=dict)
    low_res_size: Size | None = None
    mask_channels: bool = False
    diffusion: DiffusionSpec | None = None
    sampling: Any = None
    last_step_params: bool = False
    provenance: Mapping[str, Any] | None = None

    def __post_init__(self):
        check_stage_name(self.name)

    def to_json(self) -> dict[str, Any]:
        """Returns the content of the stage's config.json: the required fields and every other that is set."""
        content, required = fields.to_json(self), fields.required_names(StageSpec)
        unset = [name for name, value in content.items() if value in (None, {}, False) and name not in required]
        sections = {name: value for name, value in content.items() if name not in ("name", *unset)}
        if self.sampling is not None:
            sections["sampling"] = fields.to_json(self.sampling.chosen())
        return {"schema": SCHEMA, **sections}


def from_json(
    name: str, content: Mapping[str, Any], *, where: str, settings: type | None = SamplingSettings
) -> StageSpec:
    """Parses the content of a stage's config.json.

    Args:
      name: Name of the stage: that of its folder.
      where: The file, for messages.
      settings: The class of the sampler settings. If None, they are not parsed: the kind is unknown.

    Raises:
      ValueError: For another schema, a bad name, an unknown or missing field, or an invalid value.
    """
    sections = {field: value for field, value in content.items() if field != "schema"}
    if content.get("schema") != SCHEMA:
        raise ValueError(f"{where} has schema {content.get('schema')!r} and must have {SCHEMA}.")
    if "name" in sections:
        raise ValueError(f"{where} has no field name; the folder's name is the stage's")
    if settings is not None and sections.get("sampling") is not None:
        sections["sampling"] = fields.parse(settings, sections["sampling"], where=f"{where}.sampling")
    return fields.parse(StageSpec, {"name": name, **sections}, where=where)


def check_stage_name(name: Any) -> None:
    """Raises ValueError unless `name` can name a stage: it becomes a folder, and a word on the command line."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(
            f"name of a stage must consist of letters, digits and underscores and not begin with a digit, got {name!r}."
        )
    if name in RESERVED:
        raise ValueError(f"name of a stage must not be {name!r}, which a cascade folder uses itself.")
