#!/bin/bash
# test.sh - runs all tests with a line for each package and the time so far; the exit status is go test's.
set -euo pipefail
cd "$(dirname "$0")/.."
export MUSTER_TEST_CACHE=${MUSTER_TEST_CACHE:-$PWD/build/test-cache}
mkdir -p "$MUSTER_TEST_CACHE"
# Two packages at once: the machines of the tests are emulated and would starve each other's time limits.
exec go test -p 2 -timeout 40m ./... "$@"
