package boot

import (
	"errors"
	"fmt"
	"strings"

	"muster/internal/model"
)

// What iPXE does with a line (src/core/exec.c, src/image/script.c, the version of 2019 that Debian 12 has): a backslash at the
// end joins the next line; tokens are split at white space, without quotes; a token that begins with "#" ends the command, and
// "||", "&&" and ";" begin another; "${…}" inside a token is replaced. Nothing of that may come from an attribute, a node's name
// or a message: arguments that could are refused by [kernelArg], text is made harmless by [say].

// commandLine is the most that an x86 kernel reads of its arguments (COMMAND_LINE_SIZE), less the final zero.
const commandLine = 2047

// kernelArgs are the arguments of the kernel, without the token: console, panic, and what the init needs to find its network
// port and this service. All problems are reported at once.
func kernelArgs(s *model.Snapshot, n *model.Node, port nic, at []Server) ([]string, error) {
	var problems []error
	attr := func(a model.AttrName, otherwise string) string {
		v, err := s.Attr(n, a)
		if err != nil {
			problems = append(problems, err)
		}
		if v == "" {
			return otherwise
		}
		return v
	}
	args := []string{
		"console=" + attr("console.device", "ttyS0") + "," + attr("console.speed", "115200"),
		"panic=10", // a kernel that stops starts again, and the count of network boots ends that
		"muster.server=" + serverArg(at),
		"muster.pin=" + at[0].Pin,
		"muster.node=" + string(n.Name),
		"muster.net=" + netArg(port),
		"BOOTIF=01-" + strings.ReplaceAll(port.mac, ":", "-"), // PXELINUX's form: 01 is Ethernet
	}
	for _, a := range args {
		if err := kernelArg(a); err != nil {
			problems = append(problems, err)
		}
	}
	for _, a := range strings.Fields(attr("image.kernelargs", "")) {
		err := kernelArg(a)
		if err == nil && (strings.HasPrefix(a, "muster.") || strings.HasPrefix(a, "initrd=")) {
			err = fmt.Errorf("kernel argument %q is the service's own", a)
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("image.kernelargs: %w", err))
		}
		args = append(args, a)
	}
	if len(problems) > 0 {
		return nil, errors.New(line(errors.Join(problems...).Error()))
	}
	return args, nil
}

// netArg is MAC,ADDRESS/PREFIX,GATEWAY,DNS: gateway may be empty, and every field from the fourth on is a name server. Where another
// DHCP server gives the address, it is the MAC alone.
func netArg(port nic) string {
	if port.mode == model.ModeProxy {
		return port.mac
	}
	fields := []string{port.mac, port.cidr().String(), ""}
	if port.gateway.IsValid() {
		fields[2] = port.gateway.String()
	}
	for _, a := range port.dns {
		fields = append(fields, a.String())
	}
	if len(port.dns) == 0 {
		fields = append(fields, "")
	}
	return strings.Join(fields, ",")
}

// kernelArg says why a word cannot be a kernel argument in an iPXE script; nil when it can.
func kernelArg(a string) error {
	for i := range len(a) {
		if a[i] <= ' ' || a[i] > '~' {
			return fmt.Errorf("kernel argument %q has an octet that is not printable ASCII", a)
		}
	}
	switch {
	case a == "":
		return errors.New("a kernel argument is empty")
	case a == "||" || a == "&&" || a == ";" || a[0] == '#':
		return fmt.Errorf("kernel argument %q would begin another iPXE command", a)
	case strings.Contains(a, "${"):
		return fmt.Errorf("kernel argument %q would be expanded by iPXE", a)
	case strings.HasSuffix(a, `\`):
		return fmt.Errorf("kernel argument %q would join the next line of the iPXE script", a)
	}
	return nil
}

// bootFiles are the names of kernel and initramfs under /boot/file/ (HTTP) and file/ (TFTP).
func bootFiles(img *model.Image, who string) (names [2]string, err error) {
	for i, f := range []model.File{img.Kernelf, img.Initrd} {
		hexa, ok := strings.CutPrefix(f.Digest, "sha256:")
		if !ok || len(hexa) != 64 || !isHex(hexa) || !fileName(f.Name) {
			return names, fmt.Errorf("image %s is damaged: boot file %q has digest %q; build it again", img.Name, f.Name, f.Digest)
		}
		names[i] = who + hexa + "/" + f.Name
	}
	return names, nil
}

// bootLine is the kernel's arguments with the token.
func bootLine(args []string, token model.Secret) (string, error) {
	line := strings.Join(args, " ") + " muster.token=" + token.Reveal()
	if token.Empty() || kernelArg(token.Reveal()) != nil {
		return "", errors.New("the token cannot be a kernel argument")
	}
	if len(line) > commandLine-len("initrd=initrd ") {
		return "", fmt.Errorf("the kernel arguments have %d octets and a kernel reads %d; shorten image.kernelargs", len(line), commandLine)
	}
	return line, nil
}

// bootScript is the script that boots. Each manager is asked, in turn, for a minute: one may be dead, another one being restarted. Then
// the machine starts anew, which uses another of its network boots. Without the command reboot, which an iPXE may lack, the firmware goes on.
func bootScript(at []Server, node model.NodeName, img *model.Image, count string, files [2]string, line string) model.Secret {
	var b strings.Builder
	b.WriteString("#!ipxe\n")
	say(&b, fmt.Sprintf("%s boots image %s, kernel %s (%s)", node, img.Name, img.Kernel, count))
	fmt.Fprintf(&b, "set tries:int32 0\n")
	fmt.Fprintf(&b, ":fetch\n")
	var from []string
	for _, p := range at {
		from = append(from, p.Address.String())
		fmt.Fprintf(&b, "imgfree ||\n")
		fmt.Fprintf(&b, "kernel --timeout 20000 --name kernel %s initrd=initrd %s && initrd --timeout 20000 --name initrd %s && boot ||\n",
			p.url("/boot/file/"+files[0]), line, p.url("/boot/file/"+files[1]))
	}
	fmt.Fprintf(&b, "inc tries\n")
	fmt.Fprintf(&b, "iseq ${tries} 20 && goto failed ||\n")
	say(&b, "kernel or initramfs did not come from "+strings.Join(from, " or ")+", again in 3 s")
	fmt.Fprintf(&b, "sleep 3\n")
	fmt.Fprintf(&b, "goto fetch\n")
	fmt.Fprintf(&b, ":failed\n")
	say(&b, "kernel or initramfs did not come, this machine starts again. See: muster why "+string(node))
	fmt.Fprintf(&b, "sleep 10\n")
	fmt.Fprintf(&b, "reboot ||\n")
	fmt.Fprintf(&b, "exit 1\n")
	return model.NewSecret(b.String())
}

// grubScript is the same for GRUB: it asks each manager once, by TFTP (GRUB 2.06 knows no other port than 80 for HTTP), and starts anew.
func grubScript(at []Server, node model.NodeName, img *model.Image, count string, files [2]string, args string) model.Secret {
	var b strings.Builder
	sayGrub(&b, fmt.Sprintf("%s boots image %s, kernel %s (%s)", node, img.Name, img.Kernel, count))
	quoted := strings.Fields(args)
	for i, a := range quoted {
		quoted[i] = grubQuote(a)
	}
	for _, p := range at {
		fmt.Fprintf(&b, "if linux (tftp,%s)/file/%s %s; then\n", p.Address, files[0], strings.Join(quoted, " "))
		fmt.Fprintf(&b, "  if initrd (tftp,%s)/file/%s; then boot; fi\nfi\n", p.Address, files[1])
	}
	sayGrub(&b, "kernel or initramfs did not come, or the kernel is not signed; this machine starts again. See: muster why "+string(node))
	b.WriteString("sleep 10\nreboot\n")
	return model.NewSecret(b.String())
}

// grubStop says why a machine does not boot, and stays there.
func grubStop(node model.NodeName, reason string) model.Secret {
	var b strings.Builder
	sayGrub(&b, fmt.Sprintf("%s is held and does not boot", node))
	sayGrub(&b, reason)
	sayGrub(&b, fmt.Sprintf("when that is mended: muster deploy %s IMAGE, and start this machine again", node))
	b.WriteString("while true; do sleep 3600; done\n")
	return model.NewSecret(b.String())
}

// grubQuote makes one word of GRUB's language of text (GRUB manual, "Quoting"): nothing is special between single quotes.
func grubQuote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

func sayGrub(b *strings.Builder, text string) {
	fmt.Fprintf(b, "echo %s\n", grubQuote("muster: "+line(text)))
}

// diskScript gives the machine back to its firmware, which goes on with the next of its boot devices: the disk. The status says that nothing
// was booted: with 0 a UEFI ends its list (UEFI specification §3.1.1).
func diskScript(node model.NodeName) model.Secret {
	var b strings.Builder
	b.WriteString("#!ipxe\n")
	say(&b, fmt.Sprintf("%s boots from its disk", node))
	b.WriteString("exit 1\n")
	return model.NewSecret(b.String())
}

// grubDisk is the same for GRUB: the loader that an installation puts where firmware looks for it (UEFI specification §3.5.1.1), else what the firmware has next.
func grubDisk(node model.NodeName) model.Secret {
	var b strings.Builder
	sayGrub(&b, fmt.Sprintf("%s boots from its disk", node))
	b.WriteString("if search --no-floppy --set=disk --file /EFI/BOOT/BOOTX64.EFI; then\n  if chainloader ($disk)/EFI/BOOT/BOOTX64.EFI; then boot; fi\nfi\nexit 1\n")
	return model.NewSecret(b.String())
}

// stopScript says why a machine does not boot, and stays there until it is started again.
func stopScript(node model.NodeName, reason string) model.Secret {
	var b strings.Builder
	b.WriteString("#!ipxe\n")
	say(&b, fmt.Sprintf("%s is held and does not boot", node))
	say(&b, reason)
	say(&b, fmt.Sprintf("when that is mended: muster deploy %s IMAGE, and start this machine again", node))
	b.WriteString(":held\nsleep 3600 ||\ngoto held\n")
	return model.NewSecret(b.String())
}

// say writes text as echo lines of at most 78 columns of text. What iPXE would take for more than text is replaced.
func say(b *strings.Builder, text string) {
	const width = 78
	text = strings.NewReplacer("{", "(", "}", ")", "|", "/", "&", "+", ";", ",", `\`, "/", "#", "=").Replace(line(text))
	out := "muster:"
	for word := range strings.FieldsSeq(text) {
		if len(out)+1+len(word) > width {
			b.WriteString("echo " + out + "\n")
			out = "muster:  "
		}
		out += " " + word
	}
	b.WriteString("echo " + out + "\n")
}

// fileName says whether a name can stand in a URL and in a script as it is.
func fileName(name string) bool {
	if name == "" || name[0] == '.' || len(name) > 100 {
		return false
	}
	for i := range len(name) {
		c := name[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '-' || c == '_' || c == '+') {
			return false
		}
	}
	return true
}
