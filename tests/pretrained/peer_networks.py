"""A network with a peer's weights beside what the peer answered (tests/golden/*.npz), and published lists of keys."""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tests.golden.drawn import drawn
from tests.pretrained.held import held
from unclip_jax import parameters
from unclip_jax.models.clip import TextFeatures
from unclip_jax.models.presets import preset
from unclip_jax.pretrained.lazy_tensor import LazyTensor
from unclip_jax.pretrained.rules import Rule, check, import_params

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
TOLERANCE = 1e-4


@dataclasses.dataclass(frozen=True)
class Case:
    """A peer's network and ours.

    Args:
      arrays: the peer's tensors, by name.
      rules: of our parameters.
      expected: their shapes.
      answer: our network, compiled, as a function of its parameters by name.
      right: what the peer answered.
      moves_nothing: endings of the names of tensors on which the answer does not depend.
    """

    arrays: Mapping[str, np.ndarray]
    rules: list[Rule]
    expected: Any
    answer: Callable[[Mapping[str, Any]], jax.Array]
    right: np.ndarray
    moves_nothing: tuple[str, ...] = ()


def load(name: str) -> tuple[Mapping[str, np.ndarray], dict[str, Any], dict[str, np.ndarray]]:
    """Inputs and answers of a golden file, what it says of the peer's configuration, and the peer's tensors."""
    golden = np.load(GOLDEN / f"{name}.npz")
    about = json.loads(str(golden["about"]))
    return golden, about["config"], {name: drawn(name, tuple(shape)) for name, shape in about["shapes"].items()}


def case(module, call, arrays, rules, right, moves_nothing=()) -> Case:
    """call: (args, kwargs) of the module."""
    args, kwargs = call

    @jax.jit
    def answer(flat):
        return module.apply({"params": parameters.unflatten(flat)}, *args, **kwargs)

    return Case(arrays, rules, expected_parameters(module, call), answer, right, moves_nothing)


def expected_parameters(module, call) -> Any:
    args, kwargs = call
    return jax.eval_shape(lambda: module.init(jax.random.key(0), *args, **kwargs)["params"])


def text_of(golden: Mapping[str, np.ndarray]) -> TextFeatures:
    return TextFeatures(golden["pooled"], golden["sequence"], golden["mask"])


def check_answer(case: Case) -> None:
    """Our network answers as the peer's does."""
    assert relative(case.answer(flat_parameters(case)), case.right) <= TOLERANCE


def check_every_tensor_counts(case: Case) -> None:
    """Another draw of any one tensor moves the answer by ten times the tolerance. Of one that is said to move nothing,
    each number is found in its parameter instead."""
    flat = {name: jnp.asarray(array) for name, array in flat_parameters(case).items()}
    before = case.answer(flat)
    for name, array in case.arrays.items():
        other = np.asarray(array + drawn(f"{name} changed", array.shape), np.float32)
        (rule,) = [rule for rule in case.rules if any(name in names for names in rule.names())]
        changed = _one(case, rule, {**case.arrays, name: other})
        moved = relative(case.answer({**flat, rule.target: changed}), before)
        if name.endswith(case.moves_nothing):
            assert moved < TOLERANCE, name
            _check_place(rule, name, other, changed)
        else:
            assert moved >= 10 * TOLERANCE, (name, moved)


def flat_parameters(case: Case) -> dict[str, np.ndarray]:
    return parameters.flatten(import_params(held(case.arrays), case.rules, case.expected, what="the peer's tensors"))


def _one(case: Case, rule: Rule, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """One parameter alone."""
    used = held({name: arrays[name] for names in rule.names() for name in names})
    shape = parameters.flatten(case.expected)[rule.target]
    made = import_params(used, [rule], parameters.unflatten({rule.target: shape}), what="the peer's tensors")
    return parameters.flatten(made)[rule.target]


def _check_place(rule: Rule, name: str, array: np.ndarray, parameter: np.ndarray) -> None:
    """The bias of one of queries, keys and values stands where the second axis of their kernel has it."""
    ((layer, part),) = [(layer, names.index(name)) for layer, names in enumerate(rule.names()) if name in names]
    own = parameter[part] if rule.layers is None else parameter[layer, part]
    np.testing.assert_array_equal(own.ravel(), array)


def relative(a: np.ndarray, b: np.ndarray) -> float:
    """The largest difference, over the largest number of b."""
    return float(np.max(np.abs(np.asarray(a) - b)) / np.max(np.abs(b)))


def with_size(fields: Mapping[str, Any], image_size: int, **changes: Any) -> dict[str, Any]:
    """The fields of a network with another image size, and the same levels with attention. changes: of other fields."""
    scale = fields["image_size"] // image_size
    fields = {**fields, "image_size": image_size, **changes}
    if "attention_resolutions" in fields:
        fields["attention_resolutions"] = tuple(side // scale for side in fields["attention_resolutions"])
    return fields


def published(name: str) -> dict[str, LazyTensor]:
    """The tensors of a published file by names and shapes alone (tests/golden/keys)."""
    lines = [line.split("\t") for line in (GOLDEN / "keys" / f"{name}.txt").read_text().splitlines() if line[0] != "#"]
    return {name: LazyTensor(tuple(json.loads(shape)), np.dtype(np.float32), None) for name, shape in lines}


def check_published(tensors, rules, module, call, count: int) -> None:
    """Every published tensor has its place, every parameter is filled, and there are `count` numbers."""
    expected = expected_parameters(module, call)
    check(tensors, rules, expected, what="published tensors")
    assert parameters.count(expected) == count


def check_preset(fields: Mapping[str, Any], name: str) -> None:
    """What was read off a published file is the preset of this name; dropout cannot be read off."""
    known = {key: value for key, value in preset(name)[1].items() if key != "dropout"}
    assert {key: fields[key] for key in known} == known
