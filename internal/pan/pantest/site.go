// Package pantest makes the Pan templates of a made-up cluster, to measure compilers with. A profile executes 300 templates and has
// 1,800 leaves, as a worker node of the public template libraries does, and most of the work is where theirs is: schemas with defaults and
// validation, components, package lists, functions that change SELF, site databases in global variables.
//
//	profile_0001 ─ machine-types/worker ─┬─ site/…           names, networks, the database of hosts and hardware
//	                                     ├─ hardware/…       structure templates, joined by create()
//	                                     ├─ os/…             packages, file systems, users
//	                                     └─ features/…/config ─ components/…/config ─┬─ …/schema
//	                                                                                 └─ …/config-common
package pantest

import (
	"fmt"
	"strings"
)

const (
	// Templates is the number of templates that a profile of Site executes, itself included.
	Templates = 300
	// Leaves is the number of properties that it has.
	Leaves = 1800

	components   = 56
	services     = 3 // of a component
	packageLists = 12
	packages     = 15 // of a list
	siteParts    = 43
	users        = 19
	fileSystems  = 10
	disks        = 3
)

// Site is the templates of a cluster with so many profiles, by file name relative to the one include directory, and the names of the object
// templates. The templates are the same each time.
func Site(profiles int) (files map[string]string, objects []string) {
	s := site{files: make(map[string]string)}
	s.library()
	s.schema()
	for i := range components {
		s.component(i)
	}
	s.hardware()
	s.system()
	s.database(profiles)
	s.worker()
	for i := range profiles {
		objects = append(objects, s.profile(i))
	}
	return s.files, objects
}

type site struct {
	files    map[string]string
	includes []string // of the machine type, in order
}

// add makes the template KIND template NAME; and returns its name.
func (s *site) add(kind, name string, lines ...string) string {
	s.files[name+".pan"] = kind + " " + name + ";\n\n" + strings.Join(lines, "\n") + "\n"
	return name
}

func (s *site) include(name string) { s.includes = append(s.includes, name) }

func (s *site) library() {
	s.add("declaration template", "pan/types",
		`type type_ipv4 = string with {`,
		`    match(SELF, '^((25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(\.(?!$)|$)){4}$') || error("%s is no IPv4 address", SELF);`,
		`};`,
		`type type_hostname = string(1..255) with match(SELF, '^(?=.{1,255}$)[0-9A-Za-z](?:[0-9A-Za-z-]{0,61}[0-9A-Za-z])?(?:\.[0-9A-Za-z](?:[0-9A-Za-z-]{0,61}[0-9A-Za-z])?)*$');`,
		`type type_fqdn = type_hostname with match(SELF, '\.[a-z]+$');`,
		`type type_hwaddr = string with match(SELF, '^[\da-f]{2}([:-])[\da-f]{2}(\1[\da-f]{2}){4}$');`,
		`type type_port = long(1..65535);`,
		`type type_email = string with match(SELF, '^[^\s@]+@[^\s@]+$');`,
		`type type_absolute_path = string with match(SELF, '^/');`,
		`type type_uri = string with match(SELF, '^(?:https?|ftp)://[^\s/]+(?:/.*)?$');`,
		`type type_pkgname = string with { match(SELF, '^(_[0-9a-f]{2}|[A-Za-z])(_[0-9a-f]{2}|[A-Za-z0-9])*$') };`,
	)
	s.add("declaration template", "pan/functions",
		`function push = {`,
		`    if (is_list(SELF)) { v = SELF; } else { v = list(); };`,
		`    foreach (i; a; ARGV) { append(v, a); };`,
		`    v;`,
		`};`,
		`function npush = {`,
		`    if (ARGC % 2 != 0) { error('npush: an even number of arguments is needed, not %d', ARGC); };`,
		`    if (is_dict(SELF)) { v = SELF; } else { v = dict(); };`,
		`    i = 0;`,
		`    while (i < ARGC) { v[ARGV[i]] = ARGV[i + 1]; i = i + 2; };`,
		`    v;`,
		`};`,
		`function pkg_repl = {`,
		`    if (ARGC < 2) { error('pkg_repl: a name and a version are needed'); };`,
		`    arch = 'x86_64';`,
		`    if (ARGC > 2 && is_defined(ARGV[2])) { arch = ARGV[2]; };`,
		`    if (!match(ARGV[0], '^[\w.+-]+$')) { error(format('pkg_repl: %s is no package', ARGV[0])); };`,
		`    name = escape(ARGV[0]);`,
		`    version = escape(ARGV[1]);`,
		`    if (!exists(SELF[name]) || !is_defined(SELF[name])) { SELF[name] = dict(); };`,
		`    SELF[name][version] = dict('arch', dict(arch, REPOSITORY[arch]));`,
		`    SELF;`,
		`};`,
		`function network_of = {`,
		`    address = ip4_to_long(ARGV[0]);`,
		`    mask = ip4_to_long(ARGV[1]);`,
		`    long_to_ip4(address[0] & mask[0]);`,
		`};`,
		`function boot_interface = {`,
		`    foreach (name; card; value('/hardware/cards/nic')) {`,
		`        if (is_defined(card['boot']) && card['boot']) { return(name); };`,
		`    };`,
		`    error(format('%s has no boot interface', OBJECT));`,
		`};`,
	)
}

func (s *site) schema() {
	s.add("declaration template", "quattor/types/component",
		`type structure_component = {`,
		`    'active' : boolean = true`,
		`    'dispatch' : boolean = true`,
		`    'version' ? string with match(SELF, '^\d+(\.\d+)*$')`,
		`    'dependencies' ? { 'pre' ? string[] 'post' ? string[] }`,
		`    'register_change' ? string[]`,
		`};`)
	s.add("declaration template", "quattor/types/hardware",
		`type structure_cpu = { 'model' : string 'speed' : double(0..10000) 'cores' : long(1..) = 1 'hyperthreading' : boolean = false };`,
		`type structure_ram = { 'size' : long(1..) 'type' : choice('ddr4', 'ddr5') = 'ddr5' };`,
		`type structure_disk = { 'capacity' : long(1..) 'interface' : string 'model' ? string 'boot' : boolean = false };`,
		`type structure_nic = { 'hwaddr' : type_hwaddr 'driver' : string 'speed' ? long 'boot' ? boolean 'maxspeed' : long = 1000 };`,
		`type structure_hardware = {`,
		`    'cpu' : structure_cpu[1..]`,
		`    'ram' : structure_ram[1..]`,
		`    'harddisks' : structure_disk{1..}`,
		`    'cards' : { 'nic' : structure_nic{1..} }`,
		`    'serialnumber' : string(1..)`,
		`    'location' : string`,
		`} with {`,
		`    boots = 0;`,
		`    foreach (name; nic; SELF['cards']['nic']) { if (is_defined(nic['boot']) && nic['boot']) { boots = boots + 1; }; };`,
		`    if (boots != 1) { error(format('%d boot interfaces', boots)); };`,
		`    true;`,
		`};`)
	s.add("declaration template", "quattor/types/system",
		`type structure_interface = { 'ip' : type_ipv4 'netmask' : type_ipv4 'gateway' ? type_ipv4 'broadcast' ? type_ipv4 'onboot' : boolean = true } with {`,
		`    !is_defined(SELF['gateway']) || network_of(SELF['ip'], SELF['netmask']) == network_of(SELF['gateway'], SELF['netmask']);`,
		`};`,
		`type structure_network = { 'hostname' : type_hostname 'domainname' : type_fqdn 'nameserver' : type_ipv4[1..3]`,
		`    'interfaces' : structure_interface{} 'default_gateway' : type_ipv4 } with {`,
		`    foreach (name; i; SELF['interfaces']) {`,
		`        if (!exists('/hardware/cards/nic/' + name)) { error(format('interface %s has no card', name)); };`,
		`    };`,
		`    true;`,
		`};`,
		`type structure_filesystem = { 'device' : type_absolute_path 'mountpoint' : type_absolute_path 'type' : choice('ext4', 'xfs', 'swap', 'tmpfs') = 'xfs'`,
		`    'mount' : boolean = true 'format' : boolean = false 'size' : long(0..) = 0 'mountopts' : string = 'defaults' };`,
		`type structure_user = { 'uid' : long(0..) 'gid' : long(0..) = 100 'home' ? type_absolute_path 'shell' : type_absolute_path = '/bin/bash' 'comment' ? string };`,
		`type structure_system = { 'network' : structure_network 'filesystems' : structure_filesystem[] 'users' : structure_user{} 'rootmail' : type_email`,
		`    'kernel' : { 'version' : string } 'function' : choice('worker', 'server') 'site' : dict };`)
	s.add("declaration template", "quattor/types/software",
		`type structure_version = { 'arch' : string{1..} };`,
		`type structure_software = { 'packages' : structure_version{}{} with { foreach (p; v; SELF) { if (!is_valid(type_pkgname, p)) { error(p); }; }; true; }`,
		`    'repositories' : type_uri{} 'components' ? extensible {} };`)
	s.add("declaration template", "quattor/schema",
		`include 'pan/types';`,
		`include 'pan/functions';`,
		`include 'quattor/types/component';`,
		`include 'quattor/types/hardware';`,
		`include 'quattor/types/system';`,
		`include 'quattor/types/software';`,
		`type structure_profile = extensible { 'hardware' : structure_hardware 'system' : structure_system 'software' : structure_software };`,
		`bind '/' = structure_profile;`)
}

// component makes the four templates of a component: what its leaves are, what they are by default, the component, its use.
func (s *site) component(i int) {
	name := fmt.Sprintf("comp%02d", i)
	s.add("declaration template", "components/"+name+"/schema",
		`include 'quattor/schema';`,
		`function `+name+`_check = {`,
		`    seen = dict();`,
		`    foreach (name; service; ARGV[0]) {`,
		`        port = to_string(service['port']);`,
		`        if (exists(seen['p' + port])) { error(format('%s and %s have port %s', seen['p' + port], name, port)); };`,
		`        seen['p' + port] = name;`,
		`    };`,
		`    length(seen) == length(ARGV[0]);`,
		`};`,
		`type `+name+`_service = {`,
		`    'command' : type_absolute_path`,
		`    'port' : type_port`,
		`    'timeout' : long(0..3600) = 30`,
		`    'level' : choice('debug', 'info', 'warning') = 'info'`,
		`    'enabled' ? boolean`,
		`    'owner' ? string(1..32)`,
		`};`,
		`type component_`+name+` = {`,
		`    include structure_component`,
		`    'services' : `+name+`_service{1..} with `+name+`_check(SELF)`,
		`    'hosts' ? type_hostname[]`,
		`    'ratio' : double(0..1) = 0.5`,
		`    'options' : extensible { 'verbose' : boolean = false }`,
		`};`,
		`bind '/software/components/`+name+`' = component_`+name+`;`)
	s.add("unique template", "components/"+name+"/config-common",
		`include 'components/`+name+`/schema';`,
		`prefix '/software/components/`+name+`';`,
		`'version' ?= '18.12.`+fmt.Sprint(i)+`';`,
		`'dependencies/pre' ?= list('spma');`,
		`'register_change' ?= list('/software/packages');`,
		`'options' ?= dict();`)
	s.add("unique template", "components/"+name+"/config",
		`include 'components/`+name+`/config-common';`,
		`'/software/packages' = pkg_repl('ncm-`+name+`', '18.12.`+fmt.Sprint(i)+`-1', 'noarch');`)
	var list []string
	for n := range services {
		list = append(list, fmt.Sprintf("'%s-%c', %d", name, 'a'+n, 1024+i*services+n))
	}
	upper := strings.ToUpper(name)
	feature := s.add("template", "features/"+name+"/config",
		`include 'components/`+name+`/config';`,
		`include if_exists('site/features/`+name+`');`,
		`variable `+upper+`_PORTS ?= dict(`+strings.Join(list, ", ")+`);`,
		`variable `+upper+`_ENABLED ?= is_defined(SITE_FUNCTION) && SITE_FUNCTION == 'worker';`,
		`prefix '/software/components/`+name+`';`,
		`'services' = {`,
		`    foreach (name; port; `+upper+`_PORTS) {`,
		`        SELF[name] = dict('command', format('/usr/sbin/%s', name), 'port', port);`,
		`        if (`+upper+`_ENABLED && port % 2 == 0) { SELF[name]['enabled'] = true; };`,
		`    };`,
		`    SELF;`,
		`};`,
		`'hosts' = push(FULL_HOSTNAME);`,
		`'options/tag' = to_lowercase('`+upper+`-') + to_string(length(`+upper+`_PORTS));`)
	s.include(feature)
}

func (s *site) hardware() {
	s.add("structure template", "hardware/cpu/epyc", `'model' = 'EPYC 9354';`, `'speed' = 3250.0;`, `'cores' = 32;`)
	s.add("structure template", "hardware/ram/dimm", `'size' ?= 16384;`)
	s.add("structure template", "hardware/disk/nvme", `'capacity' ?= 960;`, `'interface' = 'nvme';`, `'model' = 'PM9A3';`)
	s.add("structure template", "hardware/nic/mellanox", `'driver' = 'mlx5_core';`, `'speed' ?= 25000;`)
	s.add("structure template", "hardware/machine/node", `include 'hardware/machine/rack';`,
		`'cpu' = list(create('hardware/cpu/epyc'), create('hardware/cpu/epyc', 'hyperthreading', true));`,
		`'ram' = { foreach (i; size; list(16384, 16384, 32768, 32768)) { SELF[i] = create('hardware/ram/dimm', 'size', size); }; SELF; };`,
		`'harddisks' = {`,
		fmt.Sprintf(`    for (i = 0; i < %d; i = i + 1) { SELF['nvme' + to_string(i)] = create('hardware/disk/nvme', 'boot', i == 0); };`, disks),
		`    SELF;`,
		`};`,
		`'cards/nic' = dict('eth0', create('hardware/nic/mellanox', 'boot', true), 'eth1', create('hardware/nic/mellanox'));`)
	s.add("structure template", "hardware/machine/rack", `'location' ?= 'room 1';`, `'serialnumber' ?= 'none';`)
	s.include(s.add("template", "hardware/functions",
		`variable MACHINE ?= create('hardware/machine/node');`,
		`'/hardware' = merge(MACHINE, dict());`,
		`'/hardware/serialnumber' = DB_SERIAL[escape(OBJECT)];`,
		`'/hardware/location' = format('rack %d', MACHINE_NUMBER / 40 + 1);`,
		`'/hardware/cards/nic/eth0/hwaddr' = format('02:00:00:%02x:%02x:00', MACHINE_NUMBER / 256, MACHINE_NUMBER % 256);`,
		`'/hardware/cards/nic/eth1/hwaddr' = format('02:00:00:%02x:%02x:01', MACHINE_NUMBER / 256, MACHINE_NUMBER % 256);`))
}

func (s *site) system() {
	s.include(s.add("template", "os/network",
		`'/system/network' = {`,
		`    SELF['hostname'] = HOSTNAME;`,
		`    SELF['domainname'] = DOMAIN;`,
		`    SELF['nameserver'] = NAMESERVERS;`,
		`    SELF['default_gateway'] = GATEWAY;`,
		`    SELF['interfaces'] = dict(boot_interface(), dict('ip', DB_IP[escape(OBJECT)], 'netmask', NETMASK, 'gateway', GATEWAY));`,
		`    SELF;`,
		`};`,
		`'/system/kernel/version' = '6.1.0';`,
		`'/system/function' = SITE_FUNCTION;`,
		`'/system/rootmail' = format('root@%s', DOMAIN);`,
		`'/software/repositories' = { foreach (arch; name; REPOSITORY) { SELF[name] = format('http://repo.%s/%s', DOMAIN, name); }; SELF; };`))
	var lines []string
	for i := range fileSystems {
		lines = append(lines, fmt.Sprintf(`'/system/filesystems' = push(dict('device', '/dev/vg0/lv%d', 'mountpoint', '/data/%d', 'size', %d));`, i, i, 1024*(i+1)))
	}
	s.include(s.add("template", "os/filesystems", lines...))
	lines = nil
	for i := range users {
		lines = append(lines, fmt.Sprintf(`'/system/users' = npush('user%02d', dict('uid', %d, 'home', '/home/user%02d', 'comment', 'User <%d> & co'));`, i, 1000+i, i, i))
	}
	s.include(s.add("template", "os/users", lines...))
	for i := range packageLists {
		lines = nil
		for n := range packages {
			lines = append(lines, fmt.Sprintf(`'/software/packages' = pkg_repl('lib%c%02d-devel', '%d.%d.%d-%d.el9');`, 'a'+i, n, i, n, i+n, n+1))
		}
		s.include(s.add("template", fmt.Sprintf("os/rpms/list%02d", i), lines...))
	}
}

func (s *site) database(profiles int) {
	addresses, serials := []string{"variable DB_IP = dict("}, []string{"variable DB_SERIAL = dict("}
	for i := range max(profiles, 1) {
		addresses = append(addresses, fmt.Sprintf("    escape('%s'), '10.%d.%d.%d',", object(i), i/62500, i/250%250, i%250+2))
		serials = append(serials, fmt.Sprintf("    escape('%s'), 'SN%06d',", object(i), i))
	}
	s.add("declaration template", "site/databases", append(append(addresses, ");"), append(serials, ");")...)...)
	s.add("declaration template", "site/global_variables",
		`variable DOMAIN ?= 'example.org';`,
		`variable NAMESERVERS ?= list('10.0.0.1', '10.0.0.254');`,
		`variable GATEWAY ?= '10.0.0.1';`,
		`variable NETMASK ?= '255.0.0.0';`,
		`variable REPOSITORY ?= dict('x86_64', 'base', 'noarch', 'any');`,
		`variable SITE_FUNCTION ?= 'worker';`,
		`variable HOSTNAME ?= OBJECT;`,
		`variable FULL_HOSTNAME ?= format('%s.%s', replace('_', '-', HOSTNAME), DOMAIN);`)
	for i := range siteParts {
		s.include(s.add("template", fmt.Sprintf("site/part%02d", i),
			fmt.Sprintf(`variable SITE_PART_%d ?= if (exists('site/local/part%d')) { 'local' } else { 'common' };`, i, i),
			fmt.Sprintf(`'/system/site/part%02d' = dict('name', SITE_PART_%d, 'weight', %d.25);`, i, i, i)))
	}
}

func (s *site) worker() {
	lines := []string{`include 'quattor/schema';`, `include 'site/databases';`, `include 'site/global_variables';`}
	for _, name := range s.includes {
		lines = append(lines, `include '`+name+`';`)
	}
	s.add("template", "machine-types/worker", lines...)
}

func object(i int) string { return fmt.Sprintf("profile_%04d", i+1) }

func (s *site) profile(i int) string {
	return s.add("object template", object(i),
		fmt.Sprintf(`variable MACHINE_NUMBER = %d;`, i),
		fmt.Sprintf(`variable HOSTNAME = 'node%04d';`, i+1),
		`include 'machine-types/worker';`)
}
