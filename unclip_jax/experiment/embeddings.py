"""Precomputed image embeddings of a dataset, for training priors."""

from etils import epath
from ml_collections import ConfigDict

from unclip_jax import parameters
from unclip_jax.cascades.embedding import image_encoder
from unclip_jax.data import embedding_store
from unclip_jax.data.sources import check_directory, describe, open_source, source_type
from unclip_jax.experiment.config import typed
from unclip_jax.experiment.encoders import image_encoder_of, load_encoders
from unclip_jax.experiment.spec import ExperimentConfig


def store_embeddings(config: ConfigDict | ExperimentConfig, directory: epath.PathLike) -> dict[str, dict[str, int]]:
    """Encodes the images of both splits with the encoder of a config, on all devices of this process.

    To train a prior on the embeddings, set `config.data.source` to "embeddings" and `config.data.dir` to the folder.

    Args:
      config: Config of a stage with an image encoder. Its data source must provide images.
      directory: Output folder, which must not exist.

    Returns:
      {split: {"records": number of embeddings, "unreadable": number of unreadable records, which are omitted}}.

    Raises:
      ValueError: If the folder exists, the data source has no images, the config has no image encoder, or too many
        records are unreadable.
    """
    config = typed(config)
    embedding_store.check_new(directory)
    data = config.data
    if "image" not in source_type(data.source).provides:
        raise ValueError(f"config.data.source must be a source of images, got {data.source}.")
    check_directory(data)
    encoder = image_encoder_of(load_encoders(config))
    if encoder is None:
        raise ValueError("config.encoders must contain an image encoder. Use the CLIP of a cascade, for example.")
    sources = {split: open_source(data, split) for split in (data.split, data.eval_split)}
    encode, rows = image_encoder(encoder)
    digest = parameters.digest(encoder.params)
    return embedding_store.write_store(
        directory, sources, encode, clip=digest, data=describe(data), spec=data, rows=rows
    )
