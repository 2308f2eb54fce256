# Sourced by the scripts beside it, after they have gone to the repository's root.
#
#   make_environment         .venv with the package and what it needs
#   make_environment test    the same with the extra `test`
#   make_tpu_compiler        libtpu in .venv/tpu, apart from the packages: for those tests that compile for TPUs
#
# Installs once, and again when setup.py or pyproject.toml has changed or the repository has moved. An environment that
# is there already is kept. PYTHON=/path/to/python chooses the Python of a new one.

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
  fail "needs Python 3.11 or newer; $candidate is $("$candidate" --version 2>&1 | head -n 1)." \
    "Name another with PYTHON=/path/to/python"
}

install() {
  { is_new_enough .venv/bin/python && .venv/bin/python -m pip --version; } || "$1" -m venv --clear .venv || return
  .venv/bin/python -m pip install --disable-pip-version-check -e ".${2:+[$2]}"
}

make_environment() {
  local extra="${1:-}" state python log
  state="$({ cat setup.py pyproject.toml; echo "$PWD"; } | cksum)"
  # An install with an extra serves those who want none, too.
  if grep -qs "^$state:${extra:-.*}$" .venv/installed; then return; fi
  python="$(find_python)"
  "$python" -c 'import ensurepip, venv' 2>/dev/null \
    || fail "$python cannot make environments (Debian and Ubuntu: apt-get install python3-venv)." \
      "Name another with PYTHON=/path/to/python"

  echo "Installing unclip_jax and what it needs into .venv (once; takes a few minutes) ..."
  log="$(mktemp)"
  if ! install "$python" "$extra" >"$log" 2>&1; then
    tail -n 15 "$log" >&2
    fail "the installation failed; all of its output is in $log"
  fi
  rm -f "$log"
  echo "$state:$extra" >>.venv/installed
}

make_tpu_compiler() {
  if [ -e .venv/tpu/libtpu/libtpu.so ]; then return; fi
  echo "Installing TPU's compiler into .venv/tpu (once) ..."
  .venv/bin/python -m pip install --disable-pip-version-check --quiet --no-deps --target .venv/tpu "libtpu>=0.0.42" \
    || fail "the installation of libtpu failed"
}
