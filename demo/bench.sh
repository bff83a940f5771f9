#!/bin/bash
# bench.sh - the figures of every room that scales with nodes, beside what they are to reach. Nothing fails on a clock; compare
# runs as ratios, with the load printed at the end in mind. TIMES=5x repeats each more often. Peers run beside where their
# package is installed (freeipmi-tools).
set -euo pipefail
cd "$(dirname "$0")/.."
times=${TIMES:-3x}

# bench PACKAGE REGEXP: prints each result with the target of the first pattern in $targets that matches its name.
bench() {
  go test "$1" -run '^$' -bench "$2" -benchtime "$times" |
    awk -v targets="$targets" '
      BEGIN { n = split(targets, line, "\n"); for (i = 1; i <= n; i++) { split(line[i], f, "|"); pat[i] = f[1]; text[i] = f[2] } }
      /^Benchmark/ {
        name = $1; sub(/-[0-9]+$/, "", name); sub(/^Benchmark/, "", name)
        t = ""; for (i = 1; i <= n && t == ""; i++) if (pat[i] != "" && name ~ pat[i]) t = text[i]
        rest = ""; for (i = 3; i <= NF; i += 2) rest = rest ($(i + 1) == "ns/op" ? sprintf("  %.3f ms", $i / 1e6) : sprintf("  %s %s", $i, $(i + 1)))
        printf "  %-36s %s%s\n", name, rest, t == "" ? "" : "  [to reach: " t "]"
      }
      /^---|FAIL|SKIP/ { print "  " $0 }'
}

targets='Expand/n.1-100000.$|10 ms
Fold/1-D/100000|60 ms
Fold/2-D/100000|150 ms
Find/n.1-100000|10 ms
Find/g.*/10000$|5 ms, a complicated noderange
Define/10000$|500 ms
SetEach/10000$|500 ms
Apply/group/10000$|10 ms
ColdStart/100000|3,000 ms
Large/.*/10000$|200 MB, also after a restart (open)
Large/.*/100000$|700 MB, also after a restart (open)
Power/warm/.*n=200$|60 ms, 10 ms CPU
Power_beside|ratios of 1 or less
Run_stub/1000|1.0 ms CPU a host
Run_stub/5000|3,000 ms
Consoles/1000x10|8 % of a core, 60 MB
Consoles/5000x1|5 % of a core'

printf 'noderange\n' && bench ./internal/model/noderange 'Expand|Fold'
printf 'model\n' && bench ./internal/model 'Apply|Attr|Find|Memory'
printf 'store\n' && bench ./internal/store 'Define|SetEach|ColdStart|Commit|Watch|Tell'
printf 'store, a site in processes of their own\n' && times=1x bench ./internal/store 'Large'
printf 'BMCs, power status\n' && bench ./internal/bmc/ipmi 'Power'
printf 'ssh\n' && bench ./internal/remote 'Run'
printf 'consoles\n' && times=1x bench ./internal/console 'Consoles'

printf 'command line\n'
data=$(mktemp -d) serve=""
trap '[ -n "$serve" ] && kill "$serve" 2>/dev/null && wait "$serve"; rm -rf "$data"' EXIT
./muster serve --data "$data" --listen 127.0.0.1:0 2>"$data/log" &
serve=$!
until grep -q 'is ready' "$data/log"; do kill -0 $serve; read -rt 0.1 <> <(:) || true; done
export MUSTER_SERVER=unix:$data/muster.sock
./muster node add 'r1n[1-3]' >/dev/null
n=200
before=$(awk '{print $16 + $17}' /proc/$$/stat)
for _ in $(seq $n); do ./muster status r1n1 >/dev/null; done
after=$(awk '{print $16 + $17}' /proc/$$/stat)
awk -v t=$((after - before)) -v n=$n 'BEGIN { printf "  %-44s %12.3f ms CPU %43s [to reach: 10 ms CPU]\n", "muster status r1n1, start to answer", t * 10 / n, "" }'
awk '/VmRSS/ { printf "  %-44s %12.1f MB %47s [to reach: 150 MB]\n", "the service with 3 nodes, resident", $2 / 1024, "" }' "/proc/$serve/status"
printf 'load: %s\n' "$(cut -d' ' -f1-3 /proc/loadavg)"
