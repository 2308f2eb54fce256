"""The `unclip` command and the import of the package.

Arguments of each command are tested in tests/commands.
"""

import json
import subprocess
import sys
import types

import pytest

import unclip_jax
from unclip_jax import __main__ as command_line


@pytest.fixture
def install_command(monkeypatch):
    """Makes `unclip verb` call a function with the parsed arguments (`--size N`, `--config.name=value`)."""

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
    """Returns exit code and stderr of a command line that cannot be parsed."""
    with pytest.raises(SystemExit) as error:
        command_line.main(argv)
    return error.value.code, capsys.readouterr().err


def run_python(code):
    """Runs code in a new interpreter and returns the JSON that it prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_command_receives_arguments_and_returns_exit_code(install_command):
    seen = []
    install_command(lambda args: seen.append(args.size) or 7)
    assert command_line.main(["verb", "--size", "5"]) == 7
    assert seen == [5]


def test_command_exits_with_0_when_run_returns_none(install_command):
    install_command(lambda args: None)
    assert command_line.main(["verb"]) == 0


def test_config_flags_are_passed_as_overrides(install_command):
    seen = []
    install_command(lambda args: seen.append(args.overrides))
    command_line.main(["verb", "--config.optimizer.learning_rate=1e-4", "--size=4", "--config.training.steps=7"])
    assert seen == [["optimizer.learning_rate=1e-4", "training.steps=7"]]


def test_unknown_command_prints_one_line_with_available_commands(capsys):
    code, message = exit_of(["genrate"], capsys)
    assert code == 2
    assert message.count("\n") == 1
    assert message.startswith("unclip: ")
    assert "'genrate'" in message
    assert all(name in message for name in command_line.COMMANDS)


def test_unknown_flag_prints_one_line_with_closest_and_available_flags(install_command, capsys):
    install_command(lambda args: 0)
    code, message = exit_of(["verb", "--sizes=3"], capsys)
    assert code == 2
    assert message == (
        "unclip verb: unknown argument --sizes=3 (did you mean --size?). Available: --help, --size. "
        "See `unclip verb --help`.\n"
    )


def test_abbreviated_flag_is_rejected(install_command, capsys):
    install_command(lambda args: 0)
    code, message = exit_of(["verb", "--siz=3"], capsys)
    assert code == 2 and "did you mean --size?" in message


def test_missing_command_prints_one_line(capsys):
    code, message = exit_of([], capsys)
    assert code == 2 and message.count("\n") == 1 and "COMMAND" in message


def test_version_flag_prints_package_version(capsys):
    with pytest.raises(SystemExit) as exit:
        command_line.main(["--version"])
    assert exit.value.code == 0
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
def test_invalid_input_prints_one_line_and_exits_with_2(install_command, capsys, monkeypatch, error, line):
    monkeypatch.delenv("UNCLIP_TRACEBACK", raising=False)

    def run(args):
        raise error

    install_command(run)
    assert command_line.main(["verb"]) == 2
    assert capsys.readouterr() == ("", f"unclip verb: {line}\n")


def test_internal_error_shows_traceback(install_command, monkeypatch):
    def run(args):
        raise TypeError("internal error")

    install_command(run)
    with pytest.raises(TypeError, match="internal error"):
        command_line.main(["verb"])


def test_traceback_of_invalid_input_is_shown_on_request(install_command, monkeypatch):
    def run(args):
        raise ValueError("invalid input")

    install_command(run)
    monkeypatch.setenv("UNCLIP_TRACEBACK", "1")
    with pytest.raises(ValueError, match="invalid input"):
        command_line.main(["verb"])


def test_keyboard_interrupt_prints_one_line_and_exits_with_130(install_command, capsys):
    def run(args):
        raise KeyboardInterrupt

    install_command(run)
    assert command_line.main(["verb"]) == 130
    assert capsys.readouterr().err == "\nunclip verb: interrupted\n"


def test_help_lists_all_commands_without_importing_them(capsys):
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


def test_command_help_has_an_example_and_does_not_import_jax():
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


def test_import_of_package_is_fast():
    loaded = run_python(
        "import sys, json, unclip_jax\n"
        "print(json.dumps([x for x in ('jax', 'flax', 'numpy', 'transformers', 'grain') if x in sys.modules]))"
    )
    assert loaded == []


def test_public_names_exist_and_imports_start_no_backend():
    """The number of jax devices can be set only before a backend is initialized."""
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


def test_unknown_package_attribute_lists_known_names():
    with pytest.raises(AttributeError, match="no attribute 'txt_to_image'. Known: .*text_to_image"):
        unclip_jax.txt_to_image  # noqa: B018
