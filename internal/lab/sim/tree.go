package sim

import (
	"fmt"
	"math"
	"path"
	"slices"
	"strings"
	"time"

	"muster/internal/lab/board"
)

// object is a JSON document on its way out.
type object = map[string]any

// view is a controller as one request sees it. b.mu is held.
type view struct {
	*bmc
	p   *profile
	now time.Time
}

// tree is the fixed part of a vendor's resources: what is at which path. What comes and goes (sessions, tasks, entries,
// accounts) is in [view.moving].
type tree map[string]func(v view) object

func ref(path string) object { return object{"@odata.id": path} }

func refs(paths []string) []object {
	all := make([]object, len(paths))
	for i, p := range paths {
		all[i] = ref(p)
	}
	return all
}

// head begins a resource. kind is the type with its version: "Chassis.v1_14_0.Chassis".
func head(at, kind, name string) object {
	return object{"@odata.id": at, "@odata.type": "#" + kind, "Id": path.Base(at), "Name": name}
}

func collection(at, kind string, members []string) object {
	return object{
		"@odata.id": at, "@odata.type": "#" + kind + "Collection." + kind + "Collection", "Name": kind + " Collection",
		"Members": refs(members), "Members@odata.count": len(members),
	}
}

var healthy = object{"State": "Enabled", "Health": "OK"}

// with adds to a resource.
func with(o object, more object) object {
	for k, v := range more {
		o[k] = v
	}
	return o
}

func (t tree) collection(at, kind string, ids ...string) []string {
	var members []string
	for _, id := range ids {
		members = append(members, at+"/"+id)
	}
	t[at] = func(view) object { return collection(at, kind, members) }
	return members
}

func (t tree) fixed(at, kind, name string, more object) {
	t[at] = func(view) object { return with(head(at, kind, name), more) }
}

func grow(p *profile) tree {
	t := tree{}
	system, manager, chassis := p.systemPath(), p.managerPath(), p.chassisPath()
	t["/redfish"] = func(view) object { return object{"v1": root + "/"} }
	t[root] = func(v view) object { return v.serviceRoot() }
	t.collection(root+"/Systems", "ComputerSystem", p.system)
	t.collection(root+"/Managers", "Manager", p.controller)
	t.collection(root+"/Chassis", "Chassis", p.chassis)
	t.collection(root+"/Registries", "MessageRegistryFile")
	t[system] = func(v view) object { return v.system() }
	t[manager] = func(v view) object { return v.manager() }
	t[chassis] = func(v view) object { return v.chassisDocument() }
	t.parts(p)
	t.measures(p)

	byOwner := map[string][]string{}
	for _, l := range p.logs {
		at := p.logPath(l)
		owner := path.Dir(at)
		byOwner[owner] = append(byOwner[owner], l.id)
		t.fixed(at, "LogService.v1_2_0.LogService", l.id, object{
			"ServiceEnabled": true, "OverWritePolicy": "WrapsWhenFull", "Status": healthy, "Entries": ref(at + "/Entries"), "MaxNumberOfRecords": board.MaxRecords,
			"Actions": object{"#LogService.ClearLog": object{"target": at + "/Actions/LogService.ClearLog"}},
		})
	}
	for owner, ids := range byOwner {
		t.collection(owner, "LogService", ids...)
	}
	t.collection(p.mediaPath(), "VirtualMedia", p.media...)
	for _, id := range p.media {
		at := p.mediaPath() + "/" + id
		t[at] = func(v view) object {
			image, inserted := v.redfish.media[id]
			o := with(head(at, "VirtualMedia.v1_6_0.VirtualMedia", "Virtual "+id), object{
				"MediaTypes": []string{"CD", "DVD"}, "Image": nil, "Inserted": inserted, "WriteProtected": true, "ConnectedVia": "NotConnected",
				"Actions": object{
					"#VirtualMedia.InsertMedia": object{"target": at + "/Actions/VirtualMedia.InsertMedia"},
					"#VirtualMedia.EjectMedia":  object{"target": at + "/Actions/VirtualMedia.EjectMedia"},
				},
			})
			if inserted {
				o["Image"], o["ImageName"], o["ConnectedVia"] = image, path.Base(image), "URI"
			}
			return o
		}
	}
	t[system+"/"+p.bios] = func(v view) object {
		return with(head(system+"/"+p.bios, "Bios.v1_1_0.Bios", "BIOS"), object{
			"Attributes": v.redfish.bios, "AttributeRegistry": "BiosAttributeRegistry." + p.name + ".v1_0_0",
			"@Redfish.Settings": object{"@odata.type": "#Settings.v1_3_0.Settings", "SettingsObject": ref(system + "/" + p.biosSettings), "SupportedApplyTimes": []string{"OnReset"}},
			"Actions":           object{"#Bios.ResetBios": object{"target": system + "/" + p.bios + "/Actions/Bios.ResetBios"}},
		})
	}
	t[system+"/"+p.biosSettings] = func(v view) object {
		all := map[string]any{}
		for k, x := range v.redfish.bios {
			all[k] = x
		}
		for k, x := range v.redfish.pending {
			all[k] = x
		}
		return with(head(system+"/"+p.biosSettings, "Bios.v1_1_0.Bios", "BIOS, after the next start"), object{"Attributes": all})
	}
	t.services(p)
	return t
}

func (v view) serviceRoot() object {
	p := v.p
	o := object{
		"@odata.id": root + "/", "@odata.type": "#ServiceRoot.v1_11_0.ServiceRoot", "Id": "RootService", "Name": "Root Service", "RedfishVersion": p.version,
		"UUID": v.machine.uuidText(), "Systems": ref(root + "/Systems"), "Chassis": ref(root + "/Chassis"), "Managers": ref(root + "/Managers"),
		"AccountService": ref(root + "/AccountService"), "Tasks": ref(root + "/TaskService"), "UpdateService": ref(root + "/UpdateService"),
		"EventService": ref(root + "/EventService"), "Registries": ref(root + "/Registries"),
	}
	if p.vendor != "" {
		o["Vendor"] = p.vendor
	}
	if p.product != "" {
		o["Product"] = p.product
	}
	if p.sessions {
		o["SessionService"], o["Links"] = ref(root+"/SessionService"), object{"Sessions": ref(root + "/SessionService/Sessions")}
	}
	if p.expand {
		o["ProtocolFeaturesSupported"] = object{"ExpandQuery": object{"ExpandAll": true, "Levels": true, "NoLinks": true, "Links": true, "MaxLevels": maxLevels}}
	}
	return o
}

func (v view) power() string {
	switch m := &v.machine; {
	case len(m.next) == 0 && m.on:
		return "On"
	case len(m.next) == 0:
		return "Off"
	case m.next[0].on:
		return "PoweringOn"
	default:
		return "On" // until it is off
	}
}

func (v view) lamp(o object) {
	on, _ := v.machine.lit(v.now)
	switch {
	case v.p.led == "LocationIndicatorActive":
		o[v.p.led] = on
	case on:
		o[v.p.led] = "Blinking"
	default:
		o[v.p.led] = "Off"
	}
}

func (v view) system() object {
	p, at := v.p, v.p.systemPath()
	o := with(head(at, "ComputerSystem.v1_16_0.ComputerSystem", "System"), object{
		"SystemType": "Physical", "Manufacturer": p.vendor, "Model": p.machine, "SerialNumber": v.machine.serial(), "PartNumber": "SIM-2", "SKU": "SIM-SKU",
		"UUID": v.machine.uuidText(), "HostName": v.machine.name, "PowerState": v.power(), "BiosVersion": v.redfish.firmware["BIOS"], "AssetTag": v.redfish.asset, "Status": healthy,
		"Boot": v.boot(), "ProcessorSummary": object{"Count": cpus, "Model": cpuModel, "CoreCount": cpus * cores, "LogicalProcessorCount": 2 * cpus * cores, "Status": healthy},
		"MemorySummary": object{"TotalSystemMemoryGiB": dimms * dimmGiB, "Status": healthy},
		"Processors":    ref(at + "/Processors"), "Memory": ref(at + "/Memory"), "Storage": ref(at + "/Storage"), "EthernetInterfaces": ref(at + "/EthernetInterfaces"),
		"Bios": ref(at + "/" + p.bios), "LogServices": ref(at + "/LogServices"), "PCIeDevices": []object{ref(p.chassisPath() + "/PCIeDevices/gpu1")},
		"Links":   object{"Chassis": []object{ref(p.chassisPath())}, "ManagedBy": []object{ref(p.managerPath())}},
		"Actions": object{"#ComputerSystem.Reset": object{"target": at + "/Actions/ComputerSystem.Reset", "ResetType@Redfish.AllowableValues": p.resets}},
	})
	if p.mediaSystem {
		o["VirtualMedia"] = ref(p.mediaPath())
	}
	if !slices.ContainsFunc(p.logs, func(l logService) bool { return l.owner == "Systems" }) {
		delete(o, "LogServices")
	}
	v.lamp(o)
	return o
}

// The selectors of the boot flags (IPMI 2.0 table 28-14) as Redfish names them.
var targetNames = map[byte]string{0: "None", 1: "Pxe", 2: "Hdd", 5: "Cd", 6: "BiosSetup", 15: "Floppy", 4: "Diags"}

func (v view) boot() object {
	b := v.machine.boot
	o := object{
		"BootSourceOverrideEnabled": "Disabled", "BootSourceOverrideTarget": "None", "BootSourceOverrideMode": "Legacy",
		"BootSourceOverrideTarget@Redfish.AllowableValues": v.p.targets,
	}
	if b[0]&0x80 != 0 && b[1]>>2&0x0f != 0 {
		o["BootSourceOverrideEnabled"] = "Once"
		if b[0]&0x40 != 0 {
			o["BootSourceOverrideEnabled"] = "Continuous"
		}
		o["BootSourceOverrideTarget"] = targetNames[b[1]>>2&0x0f]
		if v.redfish.target != "" {
			o["BootSourceOverrideTarget"] = v.redfish.target
		}
	}
	if b[0]&0x20 != 0 || b[0]&0x80 == 0 {
		o["BootSourceOverrideMode"] = "UEFI"
	}
	return o
}

func (v view) manager() object {
	p, at := v.p, v.p.managerPath()
	o := with(head(at, "Manager.v1_14_0.Manager", "Manager"), object{
		"ManagerType": "BMC", "Model": p.manager, "FirmwareVersion": v.redfish.firmware["BMC"], "UUID": v.machine.uuidText(), "PowerState": "On", "Status": healthy,
		"DateTime": v.now.Format(time.RFC3339), "DateTimeLocalOffset": v.now.Format("-07:00"), "EthernetInterfaces": ref(at + "/EthernetInterfaces"),
		"NetworkProtocol": ref(at + "/NetworkProtocol"), "LogServices": ref(at + "/LogServices"),
		"SerialConsole": object{"ServiceEnabled": true, "MaxConcurrentSessions": 1, "ConnectTypesSupported": []string{"IPMI", "SSH"}},
		"Links":         object{"ManagerForServers": []object{ref(p.systemPath())}, "ManagerForChassis": []object{ref(p.chassisPath())}},
		"Actions":       object{"#Manager.Reset": object{"target": at + "/Actions/Manager.Reset", "ResetType@Redfish.AllowableValues": p.managerResets}},
	})
	if !p.mediaSystem {
		o["VirtualMedia"] = ref(p.mediaPath())
	}
	if !slices.ContainsFunc(p.logs, func(l logService) bool { return l.owner == "Managers" }) {
		delete(o, "LogServices")
	}
	return o
}

func (v view) chassisDocument() object {
	p, at := v.p, v.p.chassisPath()
	o := with(head(at, "Chassis.v1_19_0.Chassis", "Chassis"), object{
		"ChassisType": "RackMount", "Manufacturer": p.vendor, "Model": p.machine, "SerialNumber": v.machine.serial(), "PartNumber": "SIM-1U", "PowerState": v.power(), "Status": healthy,
		"NetworkAdapters": ref(at + "/NetworkAdapters"), "PCIeDevices": ref(at + "/PCIeDevices"),
		"Links": object{"ComputerSystems": []object{ref(p.systemPath())}, "ManagedBy": []object{ref(p.managerPath())}},
	})
	if p.thermal {
		o["Thermal"], o["Power"] = ref(at+"/Thermal"), ref(at+"/Power")
	}
	if p.sensors {
		o["Sensors"] = ref(at + "/Sensors")
	}
	v.lamp(o)
	return o
}

// What every machine is made of.
const (
	cpus     = 2
	cores    = 16
	cpuModel = "Simulated CPU 16C 2.4 GHz"
	dimms    = 8
	dimmGiB  = 32
	drives   = 2
	ports    = 2
)

func ids(pattern string, n int) []string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf(pattern, i+1))
	}
	return all
}

func mbps(v view) (int, string) {
	if v.machine.on {
		return 25000, "LinkUp"
	}
	return 0, "LinkDown"
}

// parts are the inventory.
func (t tree) parts(p *profile) {
	system, manager, chassis := p.systemPath(), p.managerPath(), p.chassisPath()
	for i, at := range t.collection(system+"/Processors", "Processor", ids(p.cpu, cpus)...) {
		t.fixed(at, "Processor.v1_13_0.Processor", "Processor", object{
			"ProcessorType": "CPU", "Socket": fmt.Sprint("CPU ", i+1), "Manufacturer": "muster", "Model": cpuModel, "TotalCores": cores, "TotalThreads": 2 * cores,
			"MaxSpeedMHz": 3600, "ProcessorArchitecture": "x86", "InstructionSet": "x86-64", "Status": healthy,
		})
	}
	for i, at := range t.collection(system+"/Memory", "Memory", ids(p.dimm, dimms)...) {
		t[at] = func(v view) object {
			return with(head(at, "Memory.v1_15_0.Memory", fmt.Sprint("DIMM ", i+1)), object{
				"CapacityMiB": dimmGiB << 10, "MemoryDeviceType": "DDR4", "OperatingSpeedMhz": 3200, "Manufacturer": "muster", "PartNumber": "SIM-32G-3200", "DeviceLocator": fmt.Sprint("A", i+1),
				"SerialNumber": fmt.Sprintf("%08X", uint32(v.machine.mark)+uint32(i)), "Status": healthy,
			})
		}
	}
	store := t.collection(system+"/Storage", "Storage", p.storage)[0]
	disks := ids(p.drive, drives)
	members := []string{}
	for i, id := range disks {
		at := store + "/Drives/" + id
		members = append(members, at)
		t[at] = func(v view) object {
			wwn := fmt.Sprintf("5000C500%08X", uint32(v.machine.mark)+uint32(i))
			return with(head(at, "Drive.v1_14_0.Drive", fmt.Sprint("Disk ", i+1)), object{
				"CapacityBytes": int64(960197124096), "MediaType": "SSD", "Protocol": "SATA", "Manufacturer": "muster", "Model": "SIM-SSD-960", "Revision": "1.0", "SerialNumber": fmt.Sprintf("D%08X%d", uint32(v.machine.mark), i+1),
				"Identifiers": []object{{"DurableName": wwn, "DurableNameFormat": "NAA"}}, "FailurePredicted": false, "Status": healthy,
			})
		}
	}
	t.fixed(store, "Storage.v1_12_0.Storage", "Storage", object{
		"Drives": refs(members), "Drives@odata.count": drives, "Volumes": ref(store + "/Volumes"), "Status": healthy,
		"StorageControllers": []object{{"@odata.id": store + "#/StorageControllers/0", "MemberId": "0", "Name": "RAID", "Manufacturer": "muster", "Model": "SIM-RAID", "FirmwareVersion": "5.1", "Status": healthy}},
	})
	t.collection(store+"/Volumes", "Volume")
	for i, at := range t.collection(system+"/EthernetInterfaces", "EthernetInterface", ids(p.nic, ports)...) {
		t[at] = func(v view) object {
			speed, link := mbps(v)
			mac := macText(v.machine.mac(byte(i + 1)))
			return with(head(at, "EthernetInterface.v1_8_0.EthernetInterface", fmt.Sprint("NIC 1 port ", i+1)), object{
				"MACAddress": mac, "PermanentMACAddress": mac, "SpeedMbps": speed, "LinkStatus": link, "InterfaceEnabled": true, "FullDuplex": true, "Status": healthy,
			})
		}
	}
	adapter := t.collection(chassis+"/NetworkAdapters", "NetworkAdapter", "nic1")[0]
	t.fixed(adapter, "NetworkAdapter.v1_9_0.NetworkAdapter", "NIC 1", object{
		"Manufacturer": "muster", "Model": "SIM-25G-2P", "SerialNumber": "N1", "Ports": ref(adapter + "/Ports"), "Status": healthy,
		"Controllers": []object{{"FirmwarePackageVersion": "22.1"}},
	})
	for i, at := range t.collection(adapter+"/Ports", "Port", ids("%d", ports)...) {
		t[at] = func(v view) object {
			speed, link := mbps(v)
			return with(head(at, "Port.v1_6_0.Port", fmt.Sprint("Port ", i+1)), object{
				"PortId": fmt.Sprint(i + 1), "CurrentSpeedGbps": speed / 1000, "LinkStatus": link, "PortProtocol": "Ethernet", "Status": healthy,
				"Ethernet": object{"AssociatedMACAddresses": []string{macText(v.machine.mac(byte(i + 1)))}},
			})
		}
	}
	gpu := t.collection(chassis+"/PCIeDevices", "PCIeDevice", "gpu1")[0]
	t.fixed(gpu, "PCIeDevice.v1_9_0.PCIeDevice", "GPU 1", object{
		"DeviceType": "SingleFunction", "Manufacturer": "muster", "Model": "SIM-GPU-80G", "FirmwareVersion": "96.0", "SerialNumber": "G1", "Status": healthy,
		"PCIeInterface": object{"PCIeType": "Gen4", "LanesInUse": 16}, "PCIeFunctions": ref(gpu + "/PCIeFunctions"),
	})
	t.collection(gpu+"/PCIeFunctions", "PCIeFunction", "1")
	t.fixed(gpu+"/PCIeFunctions/1", "PCIeFunction.v1_2_3.PCIeFunction", "GPU 1", object{"DeviceClass": "DisplayController", "FunctionId": 0, "VendorId": "0x1AF4", "DeviceId": "0x1050", "Status": healthy})
	for _, at := range t.collection(manager+"/EthernetInterfaces", "EthernetInterface", "1") {
		t[at] = func(v view) object {
			gateway := v.address.Addr().As4()
			gateway[3] = 254
			return with(head(at, "EthernetInterface.v1_8_0.EthernetInterface", "Manager port"), object{
				"MACAddress": macText(v.machine.mac(0)), "InterfaceEnabled": true, "SpeedMbps": 1000, "HostName": v.redfish.host, "FQDN": v.redfish.host, "Status": healthy,
				"DHCPv4": object{"DHCPEnabled": false}, "VLAN": object{"VLANEnable": false, "VLANId": 1}, "NameServers": []string{},
				"IPv4Addresses": []object{{"Address": v.address.Addr().String(), "SubnetMask": "255.0.0.0", "AddressOrigin": "Static", "Gateway": fmt.Sprintf("%d.%d.%d.%d", gateway[0], gateway[1], gateway[2], gateway[3])}},
			})
		}
	}
	t[manager+"/NetworkProtocol"] = func(v view) object {
		return with(head(manager+"/NetworkProtocol", "ManagerNetworkProtocol.v1_8_0.ManagerNetworkProtocol", "Network protocols"), object{
			"HostName": v.redfish.host, "FQDN": v.redfish.host, "Status": healthy, "HTTPS": object{"ProtocolEnabled": true, "Port": v.address.Port()}, "HTTP": object{"ProtocolEnabled": false, "Port": 80},
			"IPMI": object{"ProtocolEnabled": false, "Port": 623}, "SSH": object{"ProtocolEnabled": false, "Port": 22}, "NTP": object{"ProtocolEnabled": false, "NTPServers": []string{}},
		})
	}
}

// measures are the sensors, where the vendor has them.
func (t tree) measures(p *profile) {
	chassis := p.chassisPath()
	if p.sensors {
		var all []string
		for i := range sensors {
			all = append(all, strings.ReplaceAll(strings.ToLower(sensors[i].Name), " ", "_"))
		}
		for i, at := range t.collection(chassis+"/Sensors", "Sensor", all...) {
			t[at] = func(v view) object { return v.sensorDocument(at, &sensors[i]) }
		}
	}
	if !p.thermal {
		return
	}
	t[chassis+"/Thermal"] = func(v view) object {
		at := chassis + "/Thermal"
		temperatures, fans := []object{}, []object{}
		for i := range sensors {
			switch s := &sensors[i]; s.Kind {
			case 1:
				temperatures = append(temperatures, v.member(fmt.Sprintf("%s#/Temperatures/%d", at, len(temperatures)), len(temperatures), s, "ReadingCelsius"))
			case 4:
				fans = append(fans, with(v.member(fmt.Sprintf("%s#/Fans/%d", at, len(fans)), len(fans), s, "Reading"), object{"ReadingUnits": "RPM"}))
			}
		}
		return with(head(at, "Thermal.v1_7_0.Thermal", "Thermal"), object{"Temperatures": temperatures, "Fans": fans, "Temperatures@odata.count": len(temperatures), "Fans@odata.count": len(fans)})
	}
	t[chassis+"/Power"] = func(v view) object {
		at := chassis + "/Power"
		voltages, control := []object{}, []object{}
		for i := range sensors {
			switch s := &sensors[i]; s.Kind {
			case 2:
				voltages = append(voltages, v.member(fmt.Sprintf("%s#/Voltages/%d", at, len(voltages)), len(voltages), s, "ReadingVolts"))
			case 0x0b:
				control = append(control, v.member(at+"#/PowerControl/0", 0, s, "PowerConsumedWatts"))
			}
		}
		supplies := []object{}
		for i := range 2 {
			supplies = append(supplies, object{
				"@odata.id": fmt.Sprintf("%s#/PowerSupplies/%d", at, i), "MemberId": fmt.Sprint(i), "Name": fmt.Sprint("PSU ", i+1), "Model": "SIM-PSU-1100", "Manufacturer": "muster",
				"SerialNumber": fmt.Sprintf("P%07X%d", uint32(v.machine.mark)&0xfffffff, i+1), "FirmwareVersion": "1.2", "PowerCapacityWatts": 1100, "LineInputVoltage": 230, "Status": healthy,
			})
		}
		return with(head(at, "Power.v1_7_0.Power", "Power"), object{"Voltages": voltages, "PowerControl": control, "PowerSupplies": supplies})
	}
}

// reading is a sensor's value, nil where there is none, and its health.
func (v view) reading(s *board.Sensor) (value any, status object) {
	raw, ok := v.machine.value(v.now, s, v.model.deterministic)
	if !ok {
		return nil, object{"State": "UnavailableOffline"}
	}
	health := "OK"
	switch crossed := s.Status(raw); {
	case crossed&0x36 != 0:
		health = "Critical"
	case crossed != 0:
		health = "Warning"
	}
	return round(float64(raw) * float64(s.Factor) * math.Pow10(s.Exponent)), object{"State": "Enabled", "Health": health}
}

func round(x float64) float64 { return math.Round(x*1000) / 1000 }

// member is a sensor as a part of Thermal or Power.
func (v view) member(at string, n int, s *board.Sensor, key string) object {
	value, status := v.reading(s)
	o := object{"@odata.id": at, "MemberId": fmt.Sprint(n), "Name": s.Name, "SensorNumber": s.Number, key: value, "Status": status}
	for i, name := range []string{"NonCritical", "Critical", "Fatal"} {
		if !math.IsNaN(s.High[i]) {
			o["UpperThreshold"+name] = s.High[i]
		}
		if !math.IsNaN(s.Low[i]) {
			o["LowerThreshold"+name] = s.Low[i]
		}
	}
	return o
}

// The reading types and units of [board.Sensor.Kind], as Redfish names them.
var (
	readingTypes = map[byte]string{1: "Temperature", 2: "Voltage", 3: "Current", 4: "Rotational", 0x0b: "Power"}
	readingUnits = map[byte]string{1: "Cel", 2: "V", 3: "A", 4: "RPM", 0x0b: "W"}
)

func (v view) sensorDocument(at string, s *board.Sensor) object {
	value, status := v.reading(s)
	limits := object{}
	for i, name := range []string{"Caution", "Critical", "Fatal"} {
		if !math.IsNaN(s.High[i]) {
			limits["Upper"+name] = object{"Reading": s.High[i]}
		}
		if !math.IsNaN(s.Low[i]) {
			limits["Lower"+name] = object{"Reading": s.Low[i]}
		}
	}
	return with(head(at, "Sensor.v1_5_0.Sensor", s.Name), object{
		"Reading": value, "ReadingType": readingTypes[s.Kind], "ReadingUnits": readingUnits[s.Kind], "Thresholds": limits, "Status": status,
	})
}

// services are sessions, accounts, events, tasks and updates.
func (t tree) services(p *profile) {
	if p.sessions {
		t.fixed(root+"/SessionService", "SessionService.v1_1_8.SessionService", "Session Service", object{
			"ServiceEnabled": true, "SessionTimeout": int(sessionTime.Seconds()), "Sessions": ref(root + "/SessionService/Sessions"), "Status": healthy,
		})
	}
	t.fixed(root+"/AccountService", "AccountService.v1_10_0.AccountService", "Account Service", object{
		"ServiceEnabled": true, "MinPasswordLength": 1, "MaxPasswordLength": 20, "Accounts": ref(root + "/AccountService/Accounts"), "Roles": ref(root + "/AccountService/Roles"), "Status": healthy,
	})
	for _, at := range t.collection(root+"/AccountService/Roles", "Role", "Administrator", "Operator", "ReadOnly") {
		t.fixed(at, "Role.v1_3_1.Role", "User Role", object{"RoleId": path.Base(at), "IsPredefined": true, "AssignedPrivileges": []string{"Login"}})
	}
	events := object{
		"ServiceEnabled": true, "DeliveryRetryAttempts": 3, "DeliveryRetryIntervalSeconds": 30, "EventFormatTypes": []string{"Event"}, "Subscriptions": ref(root + "/EventService/Subscriptions"), "Status": healthy,
	}
	if p.events {
		events["ServerSentEventUri"] = eventPath
	}
	t.fixed(root+"/EventService", "EventService.v1_7_0.EventService", "Event Service", events)
	t.fixed(root+"/TaskService", "TaskService.v1_2_0.TaskService", "Task Service", object{"ServiceEnabled": true, "CompletedTaskOverWritePolicy": "Oldest", "Tasks": ref(root + "/TaskService/Tasks"), "Status": healthy})
	update := object{
		"ServiceEnabled": true, "FirmwareInventory": ref(root + "/UpdateService/FirmwareInventory"), "Status": healthy,
		"Actions": object{"#UpdateService.SimpleUpdate": object{"target": root + "/UpdateService/Actions/UpdateService.SimpleUpdate", "TransferProtocol@Redfish.AllowableValues": []string{"HTTP", "HTTPS"}}},
	}
	if p.multipart {
		update["MultipartHttpPushUri"] = p.update
	} else {
		update["HttpPushUri"] = p.update
	}
	t.fixed(root+"/UpdateService", "UpdateService.v1_11_0.UpdateService", "Update Service", update)
	for _, at := range t.collection(root+"/UpdateService/FirmwareInventory", "SoftwareInventory", "BMC", "BIOS", "NIC1") {
		t[at] = func(v view) object {
			return with(head(at, "SoftwareInventory.v1_8_0.SoftwareInventory", path.Base(at)), object{"Version": v.redfish.firmware[path.Base(at)], "Updateable": path.Base(at) != "NIC1", "Status": healthy})
		}
	}
}
