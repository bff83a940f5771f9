package lab

import (
	"os"
	"os/exec"
	"slices"
	"strings"

	"muster/internal/api"
)

const (
	qemuProgram = "qemu-system-x86_64"
	ovmfCode    = "/usr/share/OVMF/OVMF_CODE_4M.fd"
	ovmfVars    = "/usr/share/OVMF/OVMF_VARS_4M.fd"
)

// need is one thing that a lab of the host wants, and the Debian package that brings it.
type need struct {
	what    string // program name, or absolute path of a file
	pkg     string // "" when no package brings it
	without string // what to do then
}

func needs(fw Firmware) []need {
	all := []need{
		{what: qemuProgram, pkg: "qemu-system-x86"},
		{what: "ip", pkg: "iproute2"},
		{what: "/dev/net/tun", without: "load the kernel module tun"},
	}
	if fw == UEFI {
		return append(all, need{what: ovmfCode, pkg: "ovmf"}, need{what: ovmfVars, pkg: "ovmf"})
	}
	return append(all, need{what: "/usr/share/seabios/bios-256k.bin", pkg: "seabios"}, need{what: "/usr/lib/ipxe/qemu/efi-virtio.rom", pkg: "ipxe-qemu"})
}

// missing reports everything that a lab wants and this host or this user lacks, in one error.
func missing(uid int, wanted []need) error {
	var why, packages, do []string
	if uid != 0 {
		why = append(why, "it needs root (namespaces and taps)")
		do = append(do, "run it with sudo")
	}
	for _, n := range wanted {
		if present(n.what) {
			continue
		}
		why = append(why, n.what+" is missing")
		switch {
		case n.pkg == "":
			do = append(do, n.without)
		case !slices.Contains(packages, n.pkg):
			packages = append(packages, n.pkg)
		}
	}
	if len(why) == 0 {
		return nil
	}
	if len(packages) > 0 {
		do = append(do, "apt-get install "+strings.Join(packages, " "))
	}
	code := api.Failed
	if uid != 0 {
		code = api.Denied
	}
	return &api.Error{Code: code, What: "lab up", Why: strings.Join(why, "; "), Do: "To do: " + strings.Join(do, "; ")}
}

func present(what string) bool {
	if strings.HasPrefix(what, "/") {
		_, err := os.Stat(what)
		return err == nil
	}
	_, err := exec.LookPath(what)
	return err == nil
}
