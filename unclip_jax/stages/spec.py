"""Typed description of a stage, shared by training configs, cascade folders and stages in memory."""

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
    """Reference to the frozen encoder that a stage was trained with.

    Attributes:
      stage: Name of the encoder's stage in the cascade.
      digest: Digest of its parameters in float32, see `parameters.digest`. If None, it was not recorded.
    """

    stage: str
    digest: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class StageSpec:
    """Complete description of a stage, except its arrays.

    Attributes:
      name: Name of the stage in its cascade, such as "upsampler_16_to_64": letters, digits and underscores, without a
        leading digit. The random numbers of the stage depend on it.
      kind: Name of the stage kind, see `unclip_jax.kinds`.
      model: Fields of the network.
      encoders: Encoder for each role that the kind defines.
      low_res_size: Size (height, width) of the images that the stage upsamples; an int means a square. If None, the
        stage does not upsample.
      mask_channels: Whether the network receives the known region of an edited image and its mask.
      diffusion: Noise schedule and parameterization. None for kinds that do not sample by diffusion.
      sampling: Default sampling settings, an instance of the kind's settings class (`SamplingSettings` for diffusion).
        None for kinds that are not sampled.
      last_step_params: Whether the last sampling step has separate parameters, as in Karlo's upsampler.
      provenance: Description of the training, as JSON. If None, it is unknown.

    Raises:
      ValueError: If `name` is invalid.
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
        """Returns the content of config.json: required fields and all other fields that are set."""
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
      name: Name of the stage, which is the name of its folder.
      content: Content of the file.
      where: The file, for error messages.
      settings: Class of the sampling settings. If None (the kind is unknown), they are not parsed.

    Raises:
      ValueError: If the schema, the name, a field or a value is invalid.
    """
    sections = {field: value for field, value in content.items() if field != "schema"}
    if content.get("schema") != SCHEMA:
        raise ValueError(f"schema of {where} must be {SCHEMA}, got {content.get('schema')!r}.")
    if "name" in sections:
        raise ValueError(f"{where} must not contain the field name: the name of the folder is the name of the stage.")
    if settings is not None and sections.get("sampling") is not None:
        sections["sampling"] = fields.parse(settings, sections["sampling"], where=f"{where}.sampling")
    return fields.parse(StageSpec, {"name": name, **sections}, where=where)


def check_stage_name(name: Any) -> None:
    """Raises ValueError unless `name` is a valid name of a stage.

    The name is also used as a folder name and on the command line.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(
            f"name of a stage must consist of letters, digits and underscores and not start with a digit, got {name!r}."
        )
    if name in RESERVED:
        raise ValueError(f"name of a stage must not be {name!r}, which is reserved in cascade folders.")
