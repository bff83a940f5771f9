#!/bin/bash
# test.sh - runs all tests with the time so far and a line for each package; the exit status is go test's.
set -euo pipefail
cd "$(dirname "$0")/.."
export MUSTER_TEST_CACHE=${MUSTER_TEST_CACHE:-$PWD/build/test-cache}
mkdir -p "$MUSTER_TEST_CACHE"
export MUSTER_TEST_ALL=1 # prepare.sh has installed everything: what is missing fails, see internal/need
# Two packages at once: the machines of the tests are emulated and would starve each other's time limits.
go test -p 2 -timeout 40m ./... "$@" 2>&1 | while IFS= read -r line; do printf '[%5d s] %s\n' "$SECONDS" "$line"; done
