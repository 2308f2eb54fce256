"""What the make_*.py have in common: filling a peer's network with drawn weights, and writing what it answers."""

import json
import pathlib
import subprocess

import numpy as np
import torch

from tests.golden.drawn import drawn

HERE = pathlib.Path(__file__).parent


def fill(module: torch.nn.Module, prefix: str = "") -> dict[str, list[int]]:
    """Draws every tensor that is saved with the module, by `prefix` and its name; returns their shapes by these."""
    state = {name: drawn(f"{prefix}{name}", tuple(tensor.shape)) for name, tensor in module.state_dict().items()}
    module.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
    module.eval()
    return {f"{prefix}{name}": list(array.shape) for name, array in state.items()}


def pictures(array: np.ndarray) -> torch.Tensor:
    """[rows, height, width, channels] -> [rows, channels, height, width]"""
    return torch.from_numpy(array).permute(0, 3, 1, 2)


def channels_last(tensor: torch.Tensor) -> np.ndarray:
    return tensor.permute(0, 2, 3, 1).contiguous().numpy()


def commit(module: object) -> str:
    """Name and commit of the repository that a module was imported from."""
    folder = pathlib.Path(module.__file__).parents[1]
    return subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=folder, text=True).strip()


def write(
    name: str,
    *,
    peer: str,
    config: dict,
    shapes: dict[str, list[int]],
    inputs: dict[str, np.ndarray],
    answers: dict[str, np.ndarray],
) -> None:
    """`config`: with what the peer was built, or its config.json, and under "unseen" what shapes do not tell."""
    about = json.dumps({"peer": peer, "config": config, "shapes": shapes, "answers": sorted(answers)}, indent=1)
    np.savez_compressed(HERE / f"{name}.npz", about=about, **inputs, **answers)
