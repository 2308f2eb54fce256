#!/usr/bin/env bash
# Runs checks that take too long for every change. All of them by default, or the named ones:
#
#   bash launch/soak.sh [versions]
#
#   versions   all tests with the oldest and with the newest versions of the dependencies that setup.py allows
#
# Environments and logs are kept in runs/soak. Prints one line per check and exits with 1 if one fails.
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/environment.sh

SOAK=runs/soak
failed=""

# Lower bounds of setup.py as exact versions, one per line.
oldest_versions() {
  sed -n '/^BASE = \[/,/^\]/s/^ *"\([^"]*\)>=\([^"]*\)".*/\1==\2/p' setup.py | sed 's/\[[^]]*\]//'
}

check_versions() {
  local edge python constraints log
  python="$(find_python)"
  mkdir -p "$SOAK"
  oldest_versions >"$SOAK/oldest.txt"
  : >"$SOAK/newest.txt"
  for edge in oldest newest; do
    constraints="$SOAK/$edge.txt" log="$SOAK/$edge.log"
    "$python" -m venv --clear "$SOAK/$edge"
    if "$SOAK/$edge/bin/python" -m pip install --quiet --upgrade -c "$constraints" ".[test]" >"$log" 2>&1 \
      && "$SOAK/$edge/bin/python" -m pytest -n 2 --dist worksteal -m "" -q >>"$log" 2>&1; then
      echo "versions, $edge: passed ($(tail -n 1 "$log"))"
    else
      echo "versions, $edge: failed; see $log"
      failed=yes
    fi
  done
}

for check in "${@:-versions}"; do
  case "$check" in
    versions) check_versions ;;
    *) fail "Unknown check '$check'. Available: versions." ;;
  esac
done
[ -z "$failed" ]
