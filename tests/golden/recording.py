"""Shared by the scripts make_*.py: random weights for reference networks, and writing of golden files."""

import json
import pathlib
import subprocess

import numpy as np
import torch

from tests.golden.drawn import drawn

HERE = pathlib.Path(__file__).parent


def fill(module: torch.nn.Module, prefix: str = "") -> dict[str, list[int]]:
    """Replaces every tensor of a module's state dict by `drawn`.

    Args:
      module: The reference network.
      prefix: Prefix of the names.

    Returns:
      The shapes of the tensors by name, including the prefix.
    """
    state = {name: drawn(f"{prefix}{name}", tuple(tensor.shape)) for name, tensor in module.state_dict().items()}
    module.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
    module.eval()
    return {f"{prefix}{name}": list(array.shape) for name, array in state.items()}


def channels_first(array: np.ndarray) -> torch.Tensor:
    """Converts [rows, height, width, channels] to [rows, channels, height, width]."""
    return torch.from_numpy(array).permute(0, 3, 1, 2)


def channels_last(tensor: torch.Tensor) -> np.ndarray:
    """Converts [rows, channels, height, width] to [rows, height, width, channels]."""
    return tensor.permute(0, 2, 3, 1).contiguous().numpy()


def commit(module: object) -> str:
    """Returns the commit of the git clone that a module was imported from."""
    folder = pathlib.Path(module.__file__).parents[1]
    return subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=folder, text=True).strip()


def write(
    name: str,
    *,
    implementation: str,
    config: dict,
    shapes: dict[str, list[int]],
    inputs: dict[str, np.ndarray],
    outputs: dict[str, np.ndarray],
) -> None:
    """Writes a golden file.

    Args:
      name: Name of the file without suffix.
      implementation: Repository or package, version and class of the reference network.
      config: Arguments or config.json of the reference network. "unseen" contains the arguments of the import function
        that tensor shapes do not determine.
      shapes: Shapes of its tensors by name.
      inputs: Its inputs by name.
      outputs: Its outputs by name.
    """
    about = {"peer": implementation, "config": config, "shapes": shapes, "answers": sorted(outputs)}
    np.savez_compressed(HERE / f"{name}.npz", about=json.dumps(about, indent=1), **inputs, **outputs)
