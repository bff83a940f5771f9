package image

import (
	"strings"
)

// nodeProgramPath is where the node program lies in an image.
const nodeProgramPath = "usr/lib/muster/muster-node"

// agentWanted starts the agent.
const agentWanted = "etc/systemd/system/multi-user.target.wants/muster-agent.service"

const agentUnit = `[Unit]
Description=muster agent: reports the node to its managers
# "up" means that the node can be reached: the ssh server is there when the agent reports.
After=ssh.service
Wants=ssh.service
# The first is of a system in memory, the second of one on disk.
ConditionPathExists=|/run/muster/node.json
ConditionPathExists=|/var/lib/muster/node.json

[Service]
ExecStart=/usr/lib/muster/muster-node agent
Restart=always
RestartSec=2
MemoryMax=64M

[Install]
WantedBy=multi-user.target
`

const sshConfig = `# Root by key only; the host key is made by the boot init, and its public half is known from enrolment.
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
HostKey /etc/ssh/ssh_host_ed25519_key
UseDNS no
MaxStartups 100:30:500
`

// The unit checks its configuration before every start; the image's is checked by the image's tests, once.
const sshDropIn = `[Service]
ExecStartPre=
`

// Finding all devices and their drivers is work for some seconds; the way to the node need not wait for it.
const udevDropIn = `[Service]
Nice=15
`

// logind is here for the power button, which is how a management controller asks for a shutdown; nobody waits for it.
const logindDropIn = `[Unit]
After=muster-agent.service
`

const journalConfig = `[Journal]
Storage=volatile
RuntimeMaxUse=32M
`

const systemConfig = `[Manager]
DefaultTimeoutStartSec=60s
DefaultTimeoutStopSec=15s
`

// additions are the files that a build puts into every tree; none of them is a secret.
func additions(r Recipe, rootKeys []string, program []byte) []put {
	file := func(path, text string) put { return put{Path: path, Mode: 0o644, Content: []byte(text)} }
	keys := strings.Join(rootKeys, "\n")
	if keys != "" {
		keys += "\n"
	}
	puts := []put{
		{Path: nodeProgramPath, Mode: 0o755, Content: program},
		file("usr/lib/systemd/system/muster-agent.service", agentUnit),
		{Path: agentWanted, Link: "/usr/lib/systemd/system/muster-agent.service"},
		{Path: "etc/systemd/system/default.target", Link: "/usr/lib/systemd/system/multi-user.target"},
		file("etc/ssh/sshd_config.d/10-muster.conf", sshConfig),
		file("etc/systemd/system/ssh.service.d/10-muster.conf", sshDropIn),
		file("etc/systemd/system/systemd-udevd.service.d/10-muster.conf", udevDropIn),
		file("etc/systemd/system/systemd-logind.service.d/10-muster.conf", logindDropIn),
		file("etc/systemd/journald.conf.d/10-muster.conf", journalConfig),
		file("etc/systemd/system.conf.d/10-muster.conf", systemConfig),
		{Path: "root/.ssh", Mode: 0o700, Dir: true},
		{Path: "root/.ssh/authorized_keys", Mode: 0o600, Content: []byte(keys)},
		file("etc/machine-id", ""), // written at boot
		file("etc/fstab", "# The root is a read-only image under a writable layer in memory.\n"),
		file("etc/hosts", "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"),
	}
	for _, d := range []string{"dev", "proc", "sys", "run"} {
		puts = append(puts, put{Path: d, Mode: 0o755, Dir: true})
	}
	puts = append(puts, put{Path: "tmp", Mode: 0o1777, Dir: true})
	for _, unit := range r.Mask {
		puts = append(puts, put{Path: "etc/systemd/system/" + unit, Link: "/dev/null"})
	}
	return puts
}
