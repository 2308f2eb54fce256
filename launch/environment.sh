# Shared functions. Sourced by the other scripts in this folder from the root of the repository.
#
#   make_environment         creates .venv with the package and its dependencies
#   make_environment EXTRAS  also installs extras, such as `test` or `test,lint`
#   make_tpu_compiler        installs libtpu in .venv/tpu, separate from other packages, for tests that compile for TPUs
#
# The package is installed once, and again if setup.py or pyproject.toml has changed or the repository has moved. An
# existing environment is reused. PYTHON=/path/to/python chooses the Python of a new one.

fail() {
  echo "$(basename "$0"): $*" >&2
  exit 1
}

is_new_enough() {
  "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

find_python() {
  local candidate
  for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
    if is_new_enough "$candidate"; then
      echo "$candidate"
      return
    fi
  done
  candidate="${PYTHON:-python3}"
  fail "Python 3.11 or newer is required, got $("$candidate" --version 2>&1 | head -n 1) ($candidate)." \
    "Choose another with PYTHON=/path/to/python."
}

install() {
  { is_new_enough .venv/bin/python && .venv/bin/python -m pip --version; } || "$1" -m venv --clear .venv || return
  .venv/bin/python -m pip install --disable-pip-version-check -e ".${2:+[$2]}"
}

make_environment() {
  local extra="${1:-}" state python log
  state="$({ cat setup.py pyproject.toml; echo "$PWD"; } | cksum)"
  # An environment with an extra can be used without it as well.
  if grep -qs "^$state:${extra:-.*}$" .venv/installed; then return; fi
  python="$(find_python)"
  "$python" -c 'import ensurepip, venv' 2>/dev/null \
    || fail "$python cannot create virtual environments (on Debian and Ubuntu: apt-get install python3-venv)." \
      "Choose another with PYTHON=/path/to/python."

  echo "Installing unclip_jax and its dependencies into .venv (once, takes a few minutes) ..."
  log="$(mktemp)"
  if ! install "$python" "$extra" >"$log" 2>&1; then
    tail -n 15 "$log" >&2
    fail "The installation failed. The full output is in $log."
  fi
  rm -f "$log"
  echo "$state:$extra" >>.venv/installed
}

make_tpu_compiler() {
  if [ -e .venv/tpu/libtpu/libtpu.so ]; then return; fi
  echo "Installing the TPU compiler into .venv/tpu (once) ..."
  .venv/bin/python -m pip install --disable-pip-version-check --quiet --no-deps --target .venv/tpu "libtpu>=0.0.42" \
    || fail "The installation of libtpu failed."
}
