#!/bin/sh
# prepare.sh demo|test - sees that everything is here that make demo or make test needs; installs with apt what is missing.
set -eu
what=${1:-demo}
say() { printf '%s\n' "$*" >&2; }

problems=""
[ "$(id -u)" = 0 ] || problems="$problems
  - root: the lab makes network namespaces and the service answers DHCP. Run: sudo env PATH=\"\$PATH\" make $what"
if ! command -v go >/dev/null; then
  problems="$problems
  - Go 1.26 or newer: install it and put it in PATH (sudo has a PATH of its own: sudo env PATH=\"\$PATH\" make $what)"
else
  v=$(go env GOVERSION 2>&1 | tail -n 1 | sed 's/^go//')
  [ "$(printf '%s\n1.26\n' "$v" | sort -V | head -n 1)" = 1.26 ] || problems="$problems
  - Go 1.26 or newer: go env GOVERSION says $v"
fi
command -v apt-get >/dev/null || problems="$problems
  - apt-get: this machine is no Debian; packages have to be there already"
[ -c /dev/net/tun ] || problems="$problems
  - /dev/net/tun: the kernel has no tap interfaces (modprobe tun)"
if [ -n "$problems" ]; then
  say "make $what cannot run here. Missing:$problems"
  exit 1
fi

packages="qemu-system-x86 ovmf ipxe ipxe-qemu seabios iproute2 util-linux mmdebstrap squashfs-tools zstd kmod"
[ "$what" = test ] && packages="$packages ipmitool freeipmi-tools openipmi openssh-server kea-admin dnsmasq-base isc-dhcp-relay shim-signed grub-efi-amd64-signed cpio procps etcd-server nftables python3-minimal curl rsync fdisk xfsprogs dosfstools cloud-init libxml2-utils ignition grub-common"
missing=""
for p in $packages; do
  dpkg-query -W -f '${db:Status-Status}\n' "$p" 2>/dev/null | grep -qx installed || missing="$missing $p"
done
[ -z "$missing" ] && exit 0
say "installing:$missing"
log=$(mktemp)
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086 # a list of package names
if ! { apt-get update -q && apt-get install -y -q --no-install-recommends $missing; } >"$log" 2>&1; then
  say "apt-get could not install them. Its last lines:"
  tail -n 15 "$log" >&2
  rm -f "$log"
  exit 1
fi
rm -f "$log"
