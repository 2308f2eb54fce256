"""`unclip doctor`: reports the machine, and fails if an expected accelerator is missing."""

import re

import pytest

from unclip_jax.__main__ import main
from unclip_jax.commands.doctor import detect_accelerator, diagnose_backend


def test_doctor_reports_versions_devices_and_folders(capsys, monkeypatch):
    monkeypatch.setattr("unclip_jax.commands.doctor.detect_accelerator", lambda environment: (None, ""))
    assert main(["doctor"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for word in ("unclip_jax", "jax ", "flax ", "backend cpu, process 0 of 1", "cpu 7:", "GFLOP/s", "shapes"):
        assert word in out, word
    assert "incorrect" not in out


def test_doctor_reports_compilation_cache(capsys, monkeypatch):
    monkeypatch.setenv("UNCLIP_CACHE", "/data/unclip")
    for variable, folder in (("", "/data/unclip/compiled"), ("/fast/compiled", "/fast/compiled")):
        monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", variable)
        assert main(["doctor", "--expect", "cpu"]) == 0
        assert f"data: /data/unclip; compiled programs: {folder}\n" in capsys.readouterr().out


def test_missing_accelerator_prints_one_line_and_exits_with_1(capsys):
    assert main(["doctor", "--expect", "tpu"]) == 1
    assert capsys.readouterr().err == (
        "unclip doctor: expected backend tpu (--expect), but JAX uses cpu. Unset JAX_PLATFORMS, which is 'cpu'.\n"
    )
    assert main(["doctor", "--expect", "cpu"]) == 0


@pytest.mark.parametrize(
    ("name", "backend"), [("dev/accel0", "tpu"), ("dev/vfio/0", "tpu"), ("dev/nvidia0", "gpu"), ("dev/sda", None)]
)
def test_detect_accelerator_finds_device_files(tmp_path, name, backend):
    path = tmp_path / name
    path.parent.mkdir(parents=True)
    path.touch()
    assert detect_accelerator({}, str(tmp_path)) == (backend, f"/{name}" if backend else "")


def test_detect_accelerator_finds_variables_of_hosted_notebooks(tmp_path):
    assert detect_accelerator({"TPU_NAME": "local", "HOME": "/"}, str(tmp_path)) == ("tpu", "$TPU_NAME")
    assert detect_accelerator({"COLAB_GPU": "1"}, str(tmp_path)) == ("gpu", "$COLAB_GPU")
    assert detect_accelerator({"COLAB_GPU": ""}, str(tmp_path)) == (None, "")


@pytest.mark.parametrize(
    ("actual", "expected", "platforms", "hint"),
    [
        ("cpu", "tpu", "", r'Install JAX for it \(pip install "unclip_jax\[tpu\]"\)'),
        ("cpu", "gpu", "", r'Install JAX for it \(pip install "unclip_jax\[cuda\]"\)'),
        ("cpu", "gpu", "cpu", "Unset JAX_PLATFORMS, which is 'cpu'"),
        ("gpu", "cpu", "", "Set JAX_PLATFORMS=cpu"),
    ],
)
def test_diagnose_backend_suggests_a_solution(actual, expected, platforms, hint):
    message = diagnose_backend(actual, expected, "/dev/x", platforms)
    assert message.startswith(f"expected backend {expected} (/dev/x), but JAX uses {actual}. ")
    assert re.search(hint, message), message


def test_diagnose_backend_accepts_the_expected_or_any_backend():
    assert diagnose_backend("tpu", "tpu", "", "") is None
    assert diagnose_backend("cpu", None, "", "") is None
