"""Comparison of networks with the outputs recorded in tests/golden/*.npz, and published names and shapes of tensors."""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tests.golden.drawn import drawn
from tests.pretrained.lazy_tensors import lazy_tensors
from unclip_jax import parameters
from unclip_jax.models.clip import TextFeatures
from unclip_jax.models.presets import preset
from unclip_jax.pretrained.lazy_tensor import LazyTensor
from unclip_jax.pretrained.rules import Rule, check, import_params

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
TOLERANCE = 1e-4


@dataclasses.dataclass(frozen=True)
class Case:
    """A network with the weights and the output of a reference network.

    Attributes:
      arrays: Tensors of the reference network by name.
      rules: Rules that convert them to parameters.
      expected: Shapes of the parameters.
      run: The compiled network, as a function of its parameters by name.
      reference: Output of the reference network.
      without_effect: Suffixes of the names of tensors on which the output does not depend.
    """

    arrays: Mapping[str, np.ndarray]
    rules: list[Rule]
    expected: Any
    run: Callable[[Mapping[str, Any]], jax.Array]
    reference: np.ndarray
    without_effect: tuple[str, ...] = ()


def load(name: str) -> tuple[Mapping[str, np.ndarray], dict[str, Any], dict[str, np.ndarray]]:
    """Returns inputs and outputs of a golden file, the configuration of the reference network, and its tensors."""
    golden = np.load(GOLDEN / f"{name}.npz")
    about = json.loads(str(golden["about"]))
    return golden, about["config"], {name: drawn(name, tuple(shape)) for name, shape in about["shapes"].items()}


def case(module, call, arrays, rules, reference, without_effect=()) -> Case:
    """Returns a case. `call` is (args, kwargs) of the module."""
    args, kwargs = call

    @jax.jit
    def run(flat):
        return module.apply({"params": parameters.unflatten(flat)}, *args, **kwargs)

    return Case(arrays, rules, expected_parameters(module, call), run, reference, without_effect)


def expected_parameters(module, call) -> Any:
    args, kwargs = call
    return jax.eval_shape(lambda: module.init(jax.random.key(0), *args, **kwargs)["params"])


def text_of(golden: Mapping[str, np.ndarray]) -> TextFeatures:
    return TextFeatures(golden["pooled"], golden["sequence"], golden["mask"])


def check_output(case: Case) -> None:
    """Checks that the network matches the reference output."""
    assert relative(case.run(flat_parameters(case)), case.reference) <= TOLERANCE


def check_every_tensor_has_effect(case: Case) -> None:
    """Checks that changing any tensor changes the output by at least ten times the tolerance.

    For tensors without effect on the output, it checks their values in the parameter instead.
    """
    flat = {name: jnp.asarray(array) for name, array in flat_parameters(case).items()}
    before = case.run(flat)
    for name, array in case.arrays.items():
        other = np.asarray(array + drawn(f"{name} changed", array.shape), np.float32)
        (rule,) = [rule for rule in case.rules if any(name in names for names in rule.names())]
        changed = _import_one(case, rule, {**case.arrays, name: other})
        change = relative(case.run({**flat, rule.target: changed}), before)
        if name.endswith(case.without_effect):
            assert change < TOLERANCE, name
            _check_position(rule, name, other, changed)
        else:
            assert change >= 10 * TOLERANCE, (name, change)


def flat_parameters(case: Case) -> dict[str, np.ndarray]:
    tensors = lazy_tensors(case.arrays)
    return parameters.flatten(import_params(tensors, case.rules, case.expected, what="reference tensors"))


def _import_one(case: Case, rule: Rule, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """Imports the parameter of one rule."""
    used = lazy_tensors({name: arrays[name] for names in rule.names() for name in names})
    shape = parameters.flatten(case.expected)[rule.target]
    params = import_params(used, [rule], parameters.unflatten({rule.target: shape}), what="reference tensors")
    return parameters.flatten(params)[rule.target]


def _check_position(rule: Rule, name: str, array: np.ndarray, parameter: np.ndarray) -> None:
    """Checks that the bias of queries, keys or values has its position in the first axis of the joint bias."""
    ((layer, part),) = [(layer, names.index(name)) for layer, names in enumerate(rule.names()) if name in names]
    own = parameter[part] if rule.layers is None else parameter[layer, part]
    np.testing.assert_array_equal(own.ravel(), array)


def relative(a: np.ndarray, b: np.ndarray) -> float:
    """Returns the largest difference, relative to the largest absolute value of b."""
    return float(np.max(np.abs(np.asarray(a) - b)) / np.max(np.abs(b)))


def with_size(fields: Mapping[str, Any], image_size: int, **changes: Any) -> dict[str, Any]:
    """Returns fields with another image size and attention at the same levels. `changes` replaces other fields."""
    scale = fields["image_size"] // image_size
    fields = {**fields, "image_size": image_size, **changes}
    if "attention_resolutions" in fields:
        fields["attention_resolutions"] = tuple(side // scale for side in fields["attention_resolutions"])
    return fields


def published(name: str) -> dict[str, LazyTensor]:
    """Returns the tensors of a published file without data, from the names and shapes in tests/golden/keys."""
    lines = [line.split("\t") for line in (GOLDEN / "keys" / f"{name}.txt").read_text().splitlines() if line[0] != "#"]
    return {name: LazyTensor(tuple(json.loads(shape)), np.dtype(np.float32), None) for name, shape in lines}


def check_published(tensors, rules, module, call, count: int) -> None:
    """Checks that published tensors match all parameters, and that there are `count` values."""
    expected = expected_parameters(module, call)
    check(tensors, rules, expected, what="published tensors")
    assert parameters.count(expected) == count


def check_preset(fields: Mapping[str, Any], name: str) -> None:
    """Checks that fields derived from a published file match a preset, except for dropout."""
    known = {key: value for key, value in preset(name)[1].items() if key != "dropout"}
    assert {key: fields[key] for key in known} == known
