"""The `unclip` command itself, and the package as it is imported. Each verb's arguments are tested beside the verb."""

import json
import subprocess
import sys
import types

import pytest

import unclip_jax
from unclip_jax import __main__ as command_line


@pytest.fixture
def verb(monkeypatch):
    """Makes `unclip verb` call the given function with the parsed arguments (`--size N`, `--config.name=value`)."""

    def install(run):
        module = types.ModuleType("unclip_jax.commands.verb")

        def add_parser(subparsers):
            parser = subparsers.add_parser("verb", help="does it")
            parser.add_argument("--size", type=int, default=3)
            parser.add_argument("overrides", nargs="*")
            parser.set_defaults(run=run, dotted="config")

        module.add_parser = add_parser
        monkeypatch.setitem(sys.modules, "unclip_jax.commands.verb", module)
        monkeypatch.setitem(command_line.COMMANDS, "verb", ("verb", "does it"))

    return install


def exit_of(argv, capsys):
    """Exit code and stderr of a command line that does not get as far as its verb."""
    with pytest.raises(SystemExit) as stopped:
        command_line.main(argv)
    return stopped.value.code, capsys.readouterr().err


def run_python(code):
    """Runs code in a fresh interpreter; returns what it prints, as JSON."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_the_verb_gets_its_arguments_and_its_exit_code_is_the_command_s(verb):
    seen = []
    verb(lambda args: seen.append(args.size) or 7)
    assert command_line.main(["verb", "--size", "5"]) == 7
    assert seen == [5]


def test_a_verb_that_returns_nothing_exits_with_0(verb):
    verb(lambda args: None)
    assert command_line.main(["verb"]) == 0


def test_dotted_flags_reach_the_verb_as_overrides(verb):
    seen = []
    verb(lambda args: seen.append(args.overrides))
    command_line.main(["verb", "--config.optimizer.learning_rate=1e-4", "--size=4", "--config.training.steps=7"])
    assert seen == [["optimizer.learning_rate=1e-4", "training.steps=7"]]


def test_an_unknown_command_is_one_line_with_the_known_ones(capsys):
    code, told = exit_of(["genrate"], capsys)
    assert code == 2
    assert told.count("\n") == 1
    assert told.startswith("unclip: ")
    assert "'genrate'" in told
    assert all(name in told for name in command_line.COMMANDS)


def test_an_unknown_flag_is_one_line_with_the_nearest_and_the_known_ones(verb, capsys):
    verb(lambda args: 0)
    code, told = exit_of(["verb", "--sizes=3"], capsys)
    assert code == 2
    assert told == (
        "unclip verb: unknown argument --sizes=3 (did you mean --size?). Known: --help, --size. "
        "See `unclip verb --help`.\n"
    )


def test_a_beginning_of_a_flag_is_not_taken_for_the_flag(verb, capsys):
    verb(lambda args: 0)
    code, told = exit_of(["verb", "--siz=3"], capsys)
    assert code == 2 and "did you mean --size?" in told


def test_no_command_at_all_is_one_line(capsys):
    code, told = exit_of([], capsys)
    assert code == 2 and told.count("\n") == 1 and "COMMAND" in told


def test_version_is_the_package_s(capsys):
    with pytest.raises(SystemExit) as stopped:
        command_line.main(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out == f"unclip_jax {unclip_jax.__version__}\n"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("steps is 0: it must be\n from 1 to 1000"), "steps is 0: it must be from 1 to 1000"),
        (FileNotFoundError(2, "No such file or directory", "a.png"), "No such file or directory: 'a.png'"),
        (OSError("disk on fire"), "disk on fire"),
        (FloatingPointError("loss was not finite"), "loss was not finite"),
        (ValueError(), "ValueError"),
    ],
)
def test_a_mistake_of_the_user_is_one_line_and_exit_code_2(verb, capsys, monkeypatch, error, line):
    monkeypatch.delenv("UNCLIP_TRACEBACK", raising=False)

    def run(args):
        raise error

    verb(run)
    assert command_line.main(["verb"]) == 2
    assert capsys.readouterr() == ("", f"unclip verb: {line}\n")


def test_a_fault_of_the_program_keeps_its_traceback(verb, monkeypatch):
    def run(args):
        raise TypeError("a fault")

    verb(run)
    with pytest.raises(TypeError, match="a fault"):
        command_line.main(["verb"])


def test_the_traceback_of_a_mistake_can_be_asked_for(verb, monkeypatch):
    def run(args):
        raise ValueError("a mistake")

    verb(run)
    monkeypatch.setenv("UNCLIP_TRACEBACK", "1")
    with pytest.raises(ValueError, match="a mistake"):
        command_line.main(["verb"])


def test_ctrl_c_is_one_line_and_exit_code_130(verb, capsys):
    def run(args):
        raise KeyboardInterrupt

    verb(run)
    assert command_line.main(["verb"]) == 130
    assert capsys.readouterr().err == "\nunclip verb: interrupted\n"


def test_help_lists_every_command_without_importing_one(capsys):
    loaded = run_python(
        "import sys, json, contextlib\n"
        "from unclip_jax import __main__ as m\n"
        "with contextlib.suppress(SystemExit): m.main(['--help'])\n"
        "print(json.dumps(sorted(x for x in sys.modules if x == 'jax' or x.startswith('unclip_jax.commands.'))))"
    )
    assert loaded == []
    with pytest.raises(SystemExit):
        command_line.main(["--help"])
    listed = capsys.readouterr().out
    assert all(f"  {name} " in listed or f"  {name}\n" in listed for name in command_line.COMMANDS)


def test_help_of_every_command_has_an_example_and_does_not_wait_for_jax():
    names = list(command_line.COMMANDS)
    texts, loaded = run_python(
        "import sys, json, contextlib, io\n"
        "from unclip_jax import __main__ as m\n"
        "texts = []\n"
        f"for name in {names!r}:\n"
        "    out = io.StringIO()\n"
        "    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(out): m.main([name, '--help'])\n"
        "    texts.append(out.getvalue())\n"
        "print(json.dumps([texts, [x for x in ('jax', 'numpy', 'transformers') if x in sys.modules]]))"
    )
    for name, text in zip(names, texts, strict=True):
        assert text.startswith(f"usage: unclip {name} "), text
        assert f"  unclip {name} " in text.partition("xample")[2], f"unclip {name} --help shows no example"
    assert loaded == []


def test_importing_the_package_imports_nothing_slow():
    loaded = run_python(
        "import sys, json, unclip_jax\n"
        "print(json.dumps([x for x in ('jax', 'flax', 'numpy', 'transformers', 'grain') if x in sys.modules]))"
    )
    assert loaded == []


def test_every_public_name_is_there_and_no_import_starts_a_backend_or_flags():
    """jax takes another number of devices only as long as no backend has started."""
    result = run_python(
        "import importlib, json, pkgutil, sys\n"
        "import unclip_jax\n"
        "missing = [name for name in unclip_jax.__all__ if not hasattr(unclip_jax, name)]\n"
        "for module in pkgutil.walk_packages(unclip_jax.__path__, 'unclip_jax.'):\n"
        "    importlib.import_module(module.name)\n"
        "import jax\n"
        "jax.config.update('jax_num_cpu_devices', 3)\n"
        "from absl import flags\n"
        "print(json.dumps([missing, jax.local_device_count(), flags.FLAGS.is_parsed(), 'tensorflow' in sys.modules,\n"
        "                  'torch' in sys.modules]))"
    )
    assert result == [[], 3, False, False, False]


def test_an_unknown_name_of_the_package_is_an_error_with_the_known_ones():
    with pytest.raises(AttributeError, match="no attribute 'txt_to_image'. Known: .*text_to_image"):
        unclip_jax.txt_to_image  # noqa: B018
