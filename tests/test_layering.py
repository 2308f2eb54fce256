"""Layering of the package: allowed imports, checked by static analysis of the sources."""

import ast
import pathlib
import re
import sys

import pytest

PACKAGE = pathlib.Path(__file__).parents[1] / "unclip_jax"

# A file may import from lower floors and from its own unit (folder), but not from other units on the same floor.
FLOORS = {
    9: {"__main__"},
    8: {"commands", "__init__"},
    7: {"experiment"},
    6: {"cascades"},
    5: {"kinds"},
    4: {"tasks", "training", "sampling", "evaluation", "pretrained"},
    3: {"stages", "data"},
    2: {"diffusion", "autoregressive", "models", "sharding", "tokenizers"},
    1: {
        *("arrays", "batches", "deprecation", "errors", "fields", "files", "folder_lock", "folder_update"),
        *("huge_pages", "images", "parameters", "paths", "registry", "rng", "schema"),
    },
}
GROUND = 1  # units of this floor may import each other
FLOOR_OF = {unit: floor for floor, units in FLOORS.items() for unit in units}

# The only allowed import between units of one floor: commands use the public API, like any user of the library.
SIDEWAYS = ("commands", "__init__")

# Imports that the floors would allow but the design does not.
FORBIDDEN = {
    "training": {"models", "diffusion", "autoregressive", "stages"},  # depends on the Task interface only
    "evaluation": {"models", "diffusion", "autoregressive", "stages"},  # depends on functions only
}

# Networks, tasks and sampling must not depend on the example dataset, not even indirectly.
DATASET_INDEPENDENT = ({"models", "tasks", "kinds", "cascades"}, "unclip_jax.data.captioned_shapes")

# Packages that are not in the base installation.
NOT_INSTALLED = {"torch", "torchvision", "tensorflow", "diffusers"}
# Import name -> name of the distribution, if they differ.
DISTRIBUTIONS = {"PIL": "pillow", "absl": "absl-py", "orbax": "orbax-checkpoint"}
# Private or deprecated modules, and the layer API that this package does not use.
BANNED = ("jax._src", "jax.experimental.pjit", "jax.experimental.shard_map", "jax.experimental.maps", "flax.nnx")


def imported(name: str, source: str, modules: set[str], packages: set[str]) -> dict[str, int]:
    """Returns {imported module: line of its first import}, including imports inside functions.

    Args:
      name: Dotted name of the module.
      source: Text of the module.
      modules: All modules of the package. `from a import b` imports the module a.b if it exists, otherwise a.
      packages: The modules that are an `__init__`.
    """
    found: dict[str, int] = {}
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = name.split(".")[: len(name.split(".")) - node.level + (name in packages)]
                base = ".".join([*parents, base] if base else parents)
            names = [
                f"{base}.{alias.name}" if f"{base}.{alias.name}" in modules or base not in modules else base
                for alias in node.names
                if (base, alias.name) != ("unclip_jax", "__version__")  # a literal that is set before any import
            ]
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in (
            "import_module",
            "__import__",
        ):
            names = [arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant)]
        for target in names:
            found.setdefault(target, node.lineno)
    return found


def unit_of(module: str) -> str:
    """Returns the module or folder directly under unclip_jax that contains a module."""
    return (module.split(".") + ["__init__"])[1]


def violations(sources: dict[str, str], packages: set[str]) -> list[str]:
    """Returns a message for each violation of the layering; `sources` maps dotted module names to texts."""
    modules = set(sources)
    imports = {name: imported(name, source, modules, packages) for name, source in sources.items()}
    ours = {
        name: {target: line for target, line in targets.items() if target.split(".")[0] == "unclip_jax"}
        for name, targets in imports.items()
    }
    messages = []
    for name in sorted(modules):
        unit = unit_of(name)
        if unit not in FLOOR_OF:
            messages.append(f"{name}: {unit} has no floor")
            continue
        for target, line in sorted(ours[name].items()):
            other = unit_of(target)
            where = f"{name} line {line} imports {target}"
            if other not in FLOOR_OF:
                messages.append(f"{where}: {other} has no floor")
            elif other != unit and FLOOR_OF[other] > FLOOR_OF[unit]:
                messages.append(f"{where}: upward, floor {FLOOR_OF[unit]} to {FLOOR_OF[other]}")
            elif other != unit and FLOOR_OF[other] == FLOOR_OF[unit] != GROUND and (unit, other) != SIDEWAYS:
                messages.append(f"{where}: sideways on floor {FLOOR_OF[unit]}")
            elif other in FORBIDDEN.get(unit, ()):
                messages.append(f"{where}: {unit} must not depend on {other}")
        for target, line in sorted(imports[name].items()):
            if target.split(".")[0] in NOT_INSTALLED or target.startswith(BANNED):
                messages.append(f"{name} line {line} imports {target}: not in the base install, private or deprecated")
    graph = {name: {target for target in targets if target in modules} for name, targets in ours.items()}
    messages += [f"cycle: {' -> '.join(cycle)}" for cycle in import_cycles(graph)]
    units, dataset = DATASET_INDEPENDENT
    for name in sorted(modules):
        if unit_of(name) in units:
            path = import_chain(graph, name, dataset)
            messages += [f"{name} reaches {dataset}: {' -> '.join(path)}"] if path else []
    return messages


def import_cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Returns the import cycles, each starting and ending at the same module."""
    found, done = [], set()

    def visit(name: str, path: list[str]) -> None:
        if name in path:
            found.append([*path[path.index(name) :], name])
        elif name not in done:
            for target in sorted(graph[name]):
                visit(target, [*path, name])
            done.add(name)

    for name in sorted(graph):
        visit(name, [])
    return found


def import_chain(graph: dict[str, set[str]], start: str, end: str) -> list[str] | None:
    """Returns a chain of imports from `start` to `end` or to a module in it.

    Importing a.b.c also imports a.b.
    """
    paths, seen = [[start]], {start}
    for path in paths:
        if path[-1] == end or path[-1].startswith(f"{end}."):
            return path
        parents = {target.rpartition(".")[0] for target in graph.get(path[-1], ())} - {"unclip_jax"}
        for target in sorted(graph.get(path[-1], set()) | (parents & graph.keys())):
            if target not in seen:
                seen.add(target)
                paths.append([*path, target])
    return None


def read_package() -> tuple[dict[str, str], set[str]]:
    sources, packages = {}, set()
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        if parts[-1] == "__init__":
            parts = parts[:-1]
            packages.add(".".join(parts))
        sources[".".join(parts)] = path.read_text(encoding="utf-8")
    return sources, packages


def test_imports_respect_the_layering():
    sources, packages = read_package()
    assert len(sources) > 20
    assert violations(sources, packages) == []


def test_no_file_is_longer_than_250_lines():
    lines = {name: source.count("\n") for name, source in read_package()[0].items()}
    assert {name: count for name, count in lines.items() if count > 250} == {}


def test_every_folder_has_an_init_file():
    folders = {path.parent for path in PACKAGE.rglob("*.py")}
    assert [str(folder) for folder in sorted(folders) if not (folder / "__init__.py").exists()] == []


def test_imported_packages_are_declared_in_setup_py():
    sources, packages = read_package()
    found = {
        target.split(".")[0]: name
        for name, source in sources.items()
        for target in imported(name, source, set(sources), packages)
    }
    base = PACKAGE.parent.joinpath("setup.py").read_text(encoding="utf-8").partition("BASE = [")[2].partition("]\n")[0]
    declared = set(re.findall(r'^    "([\w-]+)', base, re.MULTILINE))
    assert "jax" in declared
    outside = found.keys() - sys.stdlib_module_names - {"unclip_jax"}
    needed = {DISTRIBUTIONS.get(name, name).replace("_", "-"): found[name] for name in outside}
    assert {name: needed[name] for name in needed.keys() - {name.replace("_", "-") for name in declared}} == {}


def test_tests_import_only_installed_packages():
    for path in sorted(PACKAGE.parent.joinpath("tests").rglob("*.py")):
        if "golden" not in path.parts:  # these run reference implementations, if they are installed
            found = imported(path.stem, path.read_text(encoding="utf-8"), set(), set())
            assert not [name for name in found if name.split(".")[0] in NOT_INSTALLED], path


# A small package without violations; each case below adds one.
VALID = {
    "unclip_jax": "",
    "unclip_jax.arrays": "import jax\nfrom unclip_jax import __version__",
    "unclip_jax.images": "from unclip_jax.arrays import Float",
    "unclip_jax.models": "",
    "unclip_jax.models.layers": "from unclip_jax import arrays",
    "unclip_jax.models.clip": "from unclip_jax.models import layers",
    "unclip_jax.diffusion": "",
    "unclip_jax.diffusion.forward_process": "import unclip_jax.arrays",
    "unclip_jax.data": "",
    "unclip_jax.data.blur": "",
    "unclip_jax.data.captioned_shapes": "",
    "unclip_jax.data.captioned_shapes.scene": "",
    "unclip_jax.stages": "",
    "unclip_jax.stages.spec": "from unclip_jax.diffusion import forward_process",
    "unclip_jax.tasks": "",
    "unclip_jax.tasks.decoder": (
        "from unclip_jax.diffusion import forward_process\nfrom unclip_jax.data.blur import blur"
    ),
    "unclip_jax.commands": "",
    "unclip_jax.commands.generate": "import unclip_jax",
    "unclip_jax.training": "",
    "unclip_jax.training.loop": "",
}
PACKAGES = {name for name in VALID if any(other.startswith(f"{name}.") for other in VALID)}


def test_valid_package_has_no_violations():
    assert violations(VALID, PACKAGES) == []


@pytest.mark.parametrize(
    ("module", "line", "violation"),
    [
        ("models.clip", "from unclip_jax.stages import spec", "upward, floor 2 to 3"),
        ("models.clip", "import unclip_jax.stages.spec", "upward, floor 2 to 3"),
        ("models.clip", "from ..stages.spec import StageSpec", "upward, floor 2 to 3"),
        ("models", "from ..stages import spec", "upward, floor 2 to 3"),
        ("models.clip", "def f():\n    from unclip_jax.tasks import decoder", "upward, floor 2 to 4"),
        ("models.clip", "importlib.import_module('unclip_jax.training.loop')", "upward, floor 2 to 4"),
        ("arrays", "from unclip_jax import load_cascade", "upward, floor 1 to 8"),
        ("models.clip", "from unclip_jax.diffusion import forward_process", "sideways on floor 2"),
        ("tasks.decoder", "from unclip_jax.training.loop import train", "sideways on floor 4"),
        ("diffusion.forward_process", "from unclip_jax.models.clip import CLIP", "sideways on floor 2"),
        ("training.loop", "from unclip_jax.models import clip", "training must not depend on models"),
        ("models.layers", "from . import clip", "cycle: unclip_jax.models.clip -> unclip_jax.models.layers"),
        ("tasks.decoder", "from unclip_jax.data.captioned_shapes.scene import Scene", "tasks.decoder reaches"),
        ("data.blur", "from unclip_jax.data.captioned_shapes import scene", "tasks.decoder reaches"),
        ("data", "from unclip_jax.data.captioned_shapes import scene", "tasks.decoder reaches"),
        ("models.clip", "import torch", "not in the base install"),
        ("models.clip", "from jax.experimental.pjit import pjit", "private or deprecated"),
        ("models.clip", "from flax import nnx", "private or deprecated"),
        ("helpers", "", "helpers has no floor"),
    ],
)
def test_forbidden_import_is_detected(module, line, violation):
    name = f"unclip_jax.{module}"
    changed = VALID | {name: f"{VALID.get(name, '')}\n{line}"}
    assert any(violation in message for message in violations(changed, PACKAGES)), violations(changed, PACKAGES)


# Units that may read the kind of a stage. All others use the interface of `StageKind`.
READ_KINDS = {"stages", "kinds"}


def reads_of_kinds(source: str, kinds: set[str]) -> list[int]:
    """Returns the lines that read an attribute `kind` or compare a stage kind.

    A comparison counts if an operand is named `kind` or is the name of a stage kind.
    """

    def is_named_kind(node: ast.AST) -> bool:
        if isinstance(node, ast.Call):  # config.get("kind")
            return any(isinstance(argument, ast.Constant) and argument.value == "kind" for argument in node.args)
        if isinstance(node, ast.Subscript):
            return isinstance(node.slice, ast.Constant) and node.slice.value == "kind"
        return "kind" in (getattr(node, "id", None), getattr(node, "attr", None))

    def names_a_kind(node: ast.AST) -> bool:
        return isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in kinds

    found = []
    for node in ast.walk(ast.parse(source)):
        compared = [node.left, *node.comparators] if isinstance(node, ast.Compare) else []
        if isinstance(node, ast.Match):
            compared += [node.subject, *(part for case in node.cases for part in ast.walk(case.pattern))]
        operands = [part for operand in compared for part in (operand, *getattr(operand, "elts", ()))]
        operands = [getattr(part, "value", part) if isinstance(part, ast.MatchValue) else part for part in operands]
        read = isinstance(node, ast.Attribute) and node.attr == "kind" and isinstance(node.ctx, ast.Load)
        if read or any(is_named_kind(part) or names_a_kind(part) for part in operands):
            found.append(node.lineno)
    return found


def test_stage_kinds_are_read_only_in_stages_and_kinds():
    from unclip_jax.kinds import KINDS

    sources, _ = read_package()
    found = {
        name: lines
        for name, source in sources.items()
        if unit_of(name) not in READ_KINDS and (lines := reads_of_kinds(source, set(KINDS)))
    }
    assert found == {}


@pytest.mark.parametrize(
    "line",
    [
        "x = spec.kind",
        "if kind == other: pass",
        "if config['kind'] in table: pass",
        "if config.get('kind') != x: pass",
        "if name == 'decoder': pass",
        "if 'upsampler' != name: pass",
        "if name in ('other', 'glide'): pass",
        "if name not in {'unet'}: pass",
        "match name:\n    case 'clip': pass",
        "match stage.kind:\n    case other: pass",
    ],
)
def test_read_of_stage_kind_is_detected(line):
    assert reads_of_kinds(f"y = 1\n{line}", {"decoder", "upsampler", "glide", "unet", "clip"}) != []


def test_assignment_of_stage_kind_is_not_a_read():
    written = "spec = StageSpec(kind='decoder')\nx = {'kind': 'clip'}\ny = x['kind']"
    assert reads_of_kinds(written, {"decoder", "clip"}) == []


def test_all_modules_can_be_imported():
    import importlib

    for name in read_package()[0]:
        if not name.endswith("__main__"):
            importlib.import_module(name)
