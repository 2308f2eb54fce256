"""`unclip doctor` says what is there, and stops a launch script where an accelerator was expected and not found."""

import re

import pytest

from unclip_jax.__main__ import main
from unclip_jax.commands.doctor import complaint_about, sign_of_accelerator


def test_it_names_versions_devices_and_folders(capsys, monkeypatch):
    monkeypatch.setattr("unclip_jax.commands.doctor.sign_of_accelerator", lambda environment: (None, ""))
    assert main(["doctor"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for word in ("unclip_jax", "jax ", "flax ", "backend cpu, process 0 of 1", "cpu 7:", "GFLOP/s", "shapes"):
        assert word in out, word
    assert "WRONG" not in out


def test_it_names_the_folder_of_compiled_programs(capsys, monkeypatch):
    monkeypatch.setenv("UNCLIP_CACHE", "/data/unclip")
    for variable, folder in (("", "/data/unclip/compiled"), ("/fast/compiled", "/fast/compiled")):
        monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", variable)
        assert main(["doctor", "--expect", "cpu"]) == 0
        assert f"data: /data/unclip; compiled programs: {folder}\n" in capsys.readouterr().out


def test_an_accelerator_that_is_missing_is_one_line_and_exit_code_1(capsys):
    assert main(["doctor", "--expect", "tpu"]) == 1
    assert capsys.readouterr().err == (
        "unclip doctor: expected tpu (--expect) and jax found cpu; JAX_PLATFORMS is 'cpu': unset it\n"
    )
    assert main(["doctor", "--expect", "cpu"]) == 0


@pytest.mark.parametrize(
    ("name", "kind"), [("dev/accel0", "tpu"), ("dev/vfio/0", "tpu"), ("dev/nvidia0", "gpu"), ("dev/sda", None)]
)
def test_files_of_an_accelerator_are_seen(tmp_path, name, kind):
    path = tmp_path / name
    path.parent.mkdir(parents=True)
    path.touch()
    assert sign_of_accelerator({}, str(tmp_path)) == (kind, f"/{name}" if kind else "")


def test_variables_of_hosted_notebooks_are_seen(tmp_path):
    assert sign_of_accelerator({"TPU_NAME": "local", "HOME": "/"}, str(tmp_path)) == ("tpu", "$TPU_NAME")
    assert sign_of_accelerator({"COLAB_GPU": "1"}, str(tmp_path)) == ("gpu", "$COLAB_GPU")
    assert sign_of_accelerator({"COLAB_GPU": ""}, str(tmp_path)) == (None, "")


@pytest.mark.parametrize(
    ("found", "expected", "platforms", "says"),
    [
        ("cpu", "tpu", "", r'install its jax \(pip install "unclip_jax\[tpu\]"\)'),
        ("cpu", "gpu", "", r'install its jax \(pip install "unclip_jax\[cuda\]"\)'),
        ("cpu", "gpu", "cpu", "JAX_PLATFORMS is 'cpu': unset it"),
        ("gpu", "cpu", "", "set JAX_PLATFORMS=cpu"),
    ],
)
def test_each_complaint_says_what_to_do(found, expected, platforms, says):
    complaint = complaint_about(found, expected, "/dev/x", platforms)
    assert complaint.startswith(f"expected {expected} (/dev/x) and jax found {found}; ")
    assert re.search(says, complaint), complaint


def test_what_was_expected_or_nothing_expected_is_no_complaint():
    assert complaint_about("tpu", "tpu", "", "") is None
    assert complaint_about("cpu", None, "", "") is None
