#!/bin/bash
# demo.sh - from an empty Debian machine to three booted, reachable nodes. KEEP=1 leaves them running; FIRMWARE=uefi boots
# them by UEFI. All state is in build/demo; the image cache there makes the second run quick.
set -euo pipefail
cd "$(dirname "$0")/.."
firmware=${FIRMWARE:-bios} nodes=${NODES:-3} keep=${KEEP:-}
dir=$PWD/build/demo name=demo range="r1n[1-$nodes]"
[ "$nodes" = 1 ] && range=r1n1
began=$(date +%s%N) serve=""

now() { printf '%6.1f s' "$(bc_ $(($(date +%s%N) - began)))"; }
bc_() { awk -v n="$1" 'BEGIN { printf "%.1f", n / 1e9 }'; }
step() { printf '\n[%s] %s\n' "$(now)" "$*"; }
show() { printf '  $ muster %s\n' "$*"; "$PWD/muster" "$@" | sed 's/^/  /'; }

down() {
  status=$?
  trap - EXIT
  trap '' INT TERM HUP # cleaning up is not to be cut off: what it calls ignores them too
  if [ $status -gt 128 ]; then
    printf '\n[%s] interrupted: cleaning up\n' "$(now)" >&2
  elif [ $status -ne 0 ]; then
    printf '\n[%s] the demo failed (exit %s)\n' "$(now)" $status >&2
    [ -s "$dir/serve.log" ] && { echo "last lines of $dir/serve.log:" >&2; tail -n 15 "$dir/serve.log" >&2; }
    [ -n "$serve" ] && ./muster why r1n1 2>/dev/null | tail -n 40 >&2 || true
  elif [ -n "$keep" ]; then
    exit 0
  fi
  [ -n "$serve" ] && { kill "$serve" 2>/dev/null && wait "$serve" 2>/dev/null || true; }
  [ -x ./muster ] && ./muster lab down --name $name >/dev/null || true
  exit $status
}
demo/prepare.sh demo
export MUSTER_SERVER=unix:$dir/data/muster.sock
if [ -x ./muster ] && ./muster list everything >/dev/null 2>&1; then
  echo "a demo still runs in $dir. End it with: kill \$(cat $dir/serve.pid); or look at it: MUSTER_SERVER=$MUSTER_SERVER ./muster status" >&2
  exit 1
fi
trap down EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
mkdir -p "$dir"
: >"$dir/serve.log"

step "building ./muster"
make --no-print-directory muster

./muster lab down --name $name >/dev/null 2>&1 || true
rm -rf "$dir/data/store" "$dir/data/keys" "$dir/data/console" "$dir/data/images"

step "a lab: $nodes machines ($firmware), switched off, disks empty, each with a BMC"
./muster lab up -n "$nodes" --firmware "$firmware" --name $name >"$dir/lab.log" 2>&1 || { cat "$dir/lab.log" >&2; exit 1; }
show lab status --name $name

step "the service"
./muster serve --data "$dir/data" --netns muster-$name --boot br0 >"$dir/serve.log" 2>&1 &
serve=$!
echo $serve >"$dir/serve.pid"
until grep -q 'is ready' "$dir/serve.log"; do
  kill -0 $serve 2>/dev/null || exit 1
  read -rt 0.1 <> <(:) || true
done
grep 'is ready' "$dir/serve.log" | sed 's/^/  /'

step "an image: Debian 12 with kernel, sshd and the agent"
./muster image build debian12 --name compute 2>&1 | sed 's/^/  /'

step "the nodes"
password=$(./muster lab status --name $name --json | sed -n 's/.*"dir": *"\([^"]*\)".*/\1/p' | head -n 1)/bmc.password
./muster node add "$range" group=compute bmc.address='10.78.0.{n0}' bmc.user=admin bmc.password=- \
  net.boot.mac='52:54:00:77:00:{n0:02x}' net.boot.address='10.77.1.{n0}' net.boot.prefix=16 <"$password" | sed 's/^/  /'
show deploy "$range" compute
show power "$range" status

step "power on"
on=$(date +%s%N)
show power "$range" on
./muster deploy "$range" --wait --verbose --timeout 5m 2>&1 | sed 's/^/  /'
took=$(bc_ $(($(date +%s%N) - on)))

step "they are up"
show status "$range"
show run "$range" -- uname -r
echo "made on $(date -u +%FT%TZ)" >"$dir/hello"
show copy "$range" "$dir/hello" /tmp
show run "$range" -- cat /tmp/hello
show why r1n1

step "summary"
ours=0
for n in $(./muster list "$range" --no-fold 2>/dev/null); do
  line=$(./muster why "$n" --json)
  us=$(printf '%s' "$line" | sed -n 's/.*"ours_us":\([0-9]*\).*/\1/p')
  ms=$(printf '%s' "$line" | sed -n 's/.*"took_ms":\([0-9]*\).*/\1/p')
  printf '  %-8s power on to up %5.1f s, of which our own answers %6.3f s\n' "$n" "$(awk "BEGIN{print $ms/1000}")" "$(awk "BEGIN{print $us/1e6}")"
  ours=$((ours + ${us:-0}))
done
printf '  power on to up for %s nodes: %s s (wanted: 60 s or less)\n' "$nodes" "$took"
printf '  our own answers in sum:     %s s (wanted: 1 s or less)\n' "$(awk "BEGIN{printf \"%.3f\", $ours/1e6}")"
printf '  the whole demo:             %s\n' "$(now)"

if [ -n "$keep" ]; then
  cat <<TXT

Everything is still running. Type next:
  export MUSTER_SERVER=$MUSTER_SERVER
  ./muster status
  ./muster console r1n1            # leave with ctrl-e c .
  ./muster run $range -- uptime
  ./muster events --follow
  ./muster power r1n1 cycle && ./muster why r1n1
End it with:
  kill $serve && tail --pid=$serve -f /dev/null && ./muster lab down --name $name
TXT
  disown $serve
else
  step "cleaning up"
fi
