#!/bin/bash
# long.sh - what make test has no time for: all quick tests under the race detector, every fuzz target for FUZZ seconds
# (default 30), the kill -9 tests over and over, pools of managers under faults.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${FUZZ:-30}
echo "race detector"
CGO_ENABLED=1 go test -race -short -p 1 -timeout 60m ./...
echo "kill -9 of the store, 200 rounds and more; cuts, large commits, backups under load"
MUSTER_LONG=1 go test ./internal/store -run 'Kill|Faults|Pool|Backup' -timeout 180m
echo "pools of managers: kill -9, partitions and power cuts, 200 rounds and more"
MUSTER_LONG=1 go test ./e2e -run '^TestPool' -v -timeout 60m
echo "firmware on a segment without IPv4"
MUSTER_LONG=1 go test ./internal/boot -run '^TestIPv6Only$' -timeout 30m
echo "installations to disk: UEFI, arrays and volume groups, what holds, kill -9 and resets in the middle"
MUSTER_LONG=1 go test ./e2e -run '^TestDisk' -v -timeout 120m
for f in $(grep -rl --include='*_test.go' '^func Fuzz' .); do
  for target in $(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$f"); do
    echo "fuzz $target, $seconds s"
    go test "./$(dirname "$f")" -run '^$' -fuzz "^$target\$" -fuzztime "${seconds}s"
  done
done
