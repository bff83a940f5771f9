package sim

import (
	"fmt"
	"slices"
	"strings"
)

// profile is how the Redfish of one vendor differs from that of others: data, read by the one server. The values are
// those that the vendors' own services show; what is not here is the same for all, as DSP0266 has it.
type profile struct {
	name    string
	vendor  string
	product string // of the service root
	machine string // model of the system
	manager string // model of the controller
	version string // of the protocol

	// Ids of the one system, controller and chassis.
	system, controller, chassis string

	resets        []string // allowable values of ComputerSystem.Reset
	managerResets []string
	targets       []string // allowable values of the boot override

	sessions bool // there is a session service
	basic    bool // HTTP basic authentication is taken
	ifMatch  bool // changes need an ETag (If-Match), and are answered 428 without
	etags    bool // resources have one
	expand   bool // $expand is known
	events   bool // events are streamed (SSE)
	strictOn bool // On is refused while the machine is on
	slots    bool // accounts are slots that are always there: made by PATCH, not by POST

	thermal bool   // sensors are in Thermal and Power
	sensors bool   // sensors are in Sensors
	led     string // "IndicatorLED" or "LocationIndicatorActive"

	logs         []logService
	bios         string // path under the system
	biosSettings string // path of the pending settings under the system
	biosNames    map[string]string
	update       string // where images are uploaded
	multipart    bool   // as multipart/form-data, else as the body
	media        []string
	mediaSystem  bool // virtual media belongs to the system, not to the controller
	drive        string
	storage      string
	nic          string // Id of a network port, with its number
	dimm         string // Id of a memory module, with its number
	cpu          string
}

// logService is one log: whose, its Id, and whether it has the hardware's events or the controller's own.
type logService struct {
	owner    string // "Systems" or "Managers"
	id       string
	hardware bool
}

var allResets = []string{"On", "ForceOff", "GracefulShutdown", "GracefulRestart", "ForceRestart", "Nmi", "PowerCycle"}

// profiles are dealt out to the controllers in turn.
var profiles = []profile{
	{
		name: "idrac", vendor: "Dell", product: "Integrated Dell Remote Access Controller", machine: "PowerEdge R650", manager: "14G Monolithic", version: "1.15.0",
		system: "System.Embedded.1", controller: "iDRAC.Embedded.1", chassis: "System.Embedded.1",
		resets:        []string{"On", "ForceOff", "ForceRestart", "GracefulRestart", "GracefulShutdown", "PushPowerButton", "Nmi", "PowerCycle"},
		managerResets: []string{"GracefulRestart"}, targets: []string{"None", "Pxe", "Floppy", "Cd", "Hdd", "BiosSetup", "Utilities", "UefiTarget", "SDCard", "UefiHttp"},
		sessions: true, basic: true, etags: true, expand: true, events: true, strictOn: true, slots: true, thermal: true, sensors: true, led: "IndicatorLED",
		logs: []logService{{"Managers", "Sel", true}, {"Managers", "Lclog", false}}, bios: "Bios", biosSettings: "Bios/Settings",
		biosNames: map[string]string{"BootMode": "Uefi", "LogicalProc": "Enabled", "ProcVirtualization": "Enabled", "SerialComm": "OnConRedirCom1"},
		update:    "/redfish/v1/UpdateService/MultipartUpload", multipart: true, media: []string{"CD", "RemovableDisk"},
		drive: "Disk.Bay.%d:Enclosure.Internal.0-1:RAID.Integrated.1-1", storage: "RAID.Integrated.1-1", nic: "NIC.Integrated.1-%d-1", dimm: "DIMM.Socket.A%d", cpu: "CPU.Socket.%d",
	},
	{
		name: "ilo", vendor: "HPE", product: "ProLiant DL360 Gen10", machine: "ProLiant DL360 Gen10", manager: "iLO 5", version: "1.13.0",
		system: "1", controller: "1", chassis: "1",
		resets:        []string{"On", "ForceOff", "GracefulShutdown", "ForceRestart", "Nmi", "PushPowerButton", "GracefulRestart"},
		managerResets: []string{"ForceRestart", "GracefulRestart"}, targets: []string{"None", "Cd", "Hdd", "Usb", "SDCard", "Utilities", "Diags", "BiosSetup", "Pxe", "UefiShell", "UefiHttp", "UefiTarget"},
		sessions: true, basic: true, etags: true, events: false, thermal: true, led: "IndicatorLED",
		logs: []logService{{"Systems", "IML", true}, {"Managers", "IEL", false}}, bios: "bios", biosSettings: "bios/settings",
		biosNames: map[string]string{"BootMode": "Uefi", "ProcHyperthreading": "Enabled", "ProcVirtualization": "Enabled", "SerialConsolePort": "Auto"},
		update:    "/cgi-bin/uploadFile", multipart: true, media: []string{"1", "2"},
		drive: "%d", storage: "DE00A000", nic: "%d", dimm: "proc1dimm%d", cpu: "%d",
	},
	{
		name: "xcc", vendor: "Lenovo", product: "ThinkSystem SR630 V2", machine: "ThinkSystem SR630 V2", manager: "Lenovo XClarity Controller", version: "1.15.0",
		system: "1", controller: "1", chassis: "1",
		resets:        []string{"On", "Nmi", "GracefulShutdown", "GracefulRestart", "ForceOn", "ForceOff", "ForceRestart"},
		managerResets: []string{"GracefulRestart", "ForceRestart"}, targets: []string{"None", "Pxe", "Cd", "Usb", "Hdd", "BiosSetup", "Diags", "UefiTarget", "UefiHttp"},
		sessions: true, basic: true, etags: true, ifMatch: true, expand: true, events: true, slots: true, thermal: true, sensors: true, led: "LocationIndicatorActive",
		logs: []logService{{"Systems", "PlatformLog", true}, {"Systems", "AuditLog", false}}, bios: "Bios", biosSettings: "Bios/Pending",
		biosNames: map[string]string{"BootModes_SystemBootMode": "UEFIMode", "Processors_HyperThreading": "Enabled", "DevicesandIOPorts_COMPort1": "Enabled"},
		update:    "/mfwupdate", multipart: true, media: []string{"EXT1", "Remote1"}, mediaSystem: true,
		drive: "Disk.%d", storage: "RAID_Slot3", nic: "ob-%d", dimm: "%d", cpu: "%d",
	},
	{
		name: "openbmc", vendor: "OpenBMC", product: "", machine: "simulated board", manager: "OpenBmc", version: "1.17.0",
		system: "system", controller: "bmc", chassis: "chassis",
		resets:        append([]string{"ForceOn"}, allResets...),
		managerResets: []string{"GracefulRestart", "ForceRestart"}, targets: []string{"None", "Pxe", "Hdd", "Cd", "Diags", "BiosSetup", "Usb"},
		sessions: true, basic: true, etags: true, expand: true, events: true, sensors: true, led: "LocationIndicatorActive",
		logs: []logService{{"Systems", "EventLog", true}, {"Managers", "Journal", false}}, bios: "Bios", biosSettings: "Bios/Settings",
		biosNames: map[string]string{"boot_mode": "UEFI"},
		update:    "/redfish/v1/UpdateService/update", media: []string{"Slot_0"},
		drive: "drive%d", storage: "1", nic: "eth%d", dimm: "dimm%d", cpu: "cpu%d",
	},
	{
		name: "supermicro", vendor: "Supermicro", product: "", machine: "SYS-1029P", manager: "ASPEED", version: "1.8.0",
		system: "1", controller: "1", chassis: "1",
		resets:        []string{"On", "ForceOff", "GracefulShutdown", "GracefulRestart", "ForceRestart", "Nmi", "ForceOn"},
		managerResets: []string{"GracefulRestart"}, targets: []string{"None", "Pxe", "Hdd", "Diags", "Cd", "BiosSetup", "FloppyRemovableMedia", "UsbKey", "UsbHdd", "UsbFloppy", "UsbCd"},
		basic: true, thermal: true, led: "IndicatorLED",
		logs: []logService{{"Managers", "Log1", true}}, bios: "Bios", biosSettings: "Bios/SD",
		biosNames: map[string]string{"BootModeSelect": "UEFI", "Hyper_Threading": "Enable"},
		update:    "/redfish/v1/UpdateService/upload", multipart: true, media: []string{"CD1"},
		drive: "HA-RAID.0.Disk.%d", storage: "HA-RAID", nic: "%d", dimm: "%d", cpu: "%d",
	},
}

// Profiles are the names of the vendors' profiles.
func Profiles() []string {
	var names []string
	for i := range profiles {
		names = append(names, profiles[i].name)
	}
	return names
}

func profileOf(name string) (*profile, error) {
	i := slices.IndexFunc(profiles, func(p profile) bool { return p.name == name })
	if i < 0 {
		return nil, fmt.Errorf("there is no profile %s; there are %s", name, strings.Join(Profiles(), ", "))
	}
	return &profiles[i], nil
}

const root = "/redfish/v1"

func (p *profile) systemPath() string  { return root + "/Systems/" + p.system }
func (p *profile) managerPath() string { return root + "/Managers/" + p.controller }
func (p *profile) chassisPath() string { return root + "/Chassis/" + p.chassis }

// owner is the path of a log's owner.
func (p *profile) logPath(l logService) string {
	if l.owner == "Systems" {
		return p.systemPath() + "/LogServices/" + l.id
	}
	return p.managerPath() + "/LogServices/" + l.id
}

func (p *profile) mediaPath() string {
	if p.mediaSystem {
		return p.systemPath() + "/VirtualMedia"
	}
	return p.managerPath() + "/VirtualMedia"
}
