package redfish

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"time"
)

// What is read of the resources, in the words of the DMTF's schemas (DSP8010). Controllers deviate in types: a number may come as a string, anything may be
// null or left out. What cannot be read is as if it had not been said.

// decode reads JSON into v. A field of a wrong type stays empty; only what is no JSON is an error.
func decode(data []byte, v any) error {
	err := json.Unmarshal(data, v)
	if wrongType := (*json.UnmarshalTypeError)(nil); errors.As(err, &wrongType) {
		return nil
	}
	return err
}

// text is a string, or what stands in its place.
type text string

// UnmarshalJSON takes strings, numbers and booleans.
func (t *text) UnmarshalJSON(b []byte) error {
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	switch v := v.(type) {
	case string:
		*t = text(strings.TrimSpace(v))
	case float64, bool:
		*t = text(b)
	}
	return nil
}

// number is a number, or a string that is one; nil when there is none.
type number struct{ v *float64 }

// UnmarshalJSON takes numbers and strings.
func (n *number) UnmarshalJSON(b []byte) error {
	f, err := strconv.ParseFloat(strings.Trim(string(b), `" `), 64)
	n.v = nil
	if err == nil && f == f && f < 1e300 && f > -1e300 {
		n.v = &f
	}
	return nil
}

func (n number) int() int64 {
	if n.v == nil {
		return 0
	}
	return int64(max(min(*n.v, 1<<62), -1<<62))
}

// moment is a time; zero when it is none or a clock that was never set.
type moment struct{ time.Time }

// UnmarshalJSON takes RFC 3339, also without a zone: some controllers leave it out.
func (m *moment) UnmarshalJSON(b []byte) error {
	s := strings.Trim(string(b), `" `)
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02T15:04:05-0700"} {
		if t, err := time.Parse(layout, s); err == nil && t.Year() > 1980 && t.Year() < 9999 {
			m.Time = t.UTC()
			return nil
		}
	}
	return nil
}

// list is an array, or one value in its place.
type list[T any] []T

// UnmarshalJSON takes both.
func (l *list[T]) UnmarshalJSON(b []byte) error {
	var all []T
	err := decode(b, &all)
	if len(b) > 0 && b[0] != '[' {
		var one T
		if err = decode(b, &one); err == nil && string(b) != "null" {
			all = []T{one}
		}
	}
	*l = all
	return err
}

type link struct {
	ID string `json:"@odata.id"`
}

type health struct{ State, Health, HealthRollup text }

type message struct {
	MessageID  text `json:"MessageId"`
	Message    text
	Resolution text
	Severity   text
}

// name is what a message is called in its registry: "Base.1.8.NoValidSession" is NoValidSession.
func (m message) name() string {
	id := string(m.MessageID)
	return id[strings.LastIndexByte(id, '.')+1:]
}

// failure is the body of an error (DSP0266, "Error responses").
type failure struct {
	Error struct {
		Code     text          `json:"code"`
		Message  text          `json:"message"`
		Extended list[message] `json:"@Message.ExtendedInfo"`
	} `json:"error"`
	Extended list[message] `json:"@Message.ExtendedInfo"` // some forget the outer object
}

func (f failure) messages() []message {
	all := append(append([]message{}, f.Error.Extended...), f.Extended...)
	if len(all) == 0 && f.Error.Message+f.Error.Code != "" {
		all = []message{{MessageID: f.Error.Code, Message: f.Error.Message}}
	}
	return all
}

type serviceRoot struct {
	RedfishVersion text
	Vendor         text
	Product        text
	UUID           text
	Systems        link
	Chassis        link
	Managers       link
	SessionService link
	AccountService link
	UpdateService  link
	EventService   link
	Links          struct{ Sessions link }
	Oem            map[string]json.RawMessage
	Features       struct {
		SelectQuery bool
		ExpandQuery struct {
			ExpandAll, Levels, Links, NoLinks bool
		}
	} `json:"ProtocolFeaturesSupported"`
}

type collection struct {
	Members []json.RawMessage
	Next    string `json:"Members@odata.nextLink"`
}

type action struct {
	Target     string     `json:"target"`
	ResetTypes list[text] `json:"ResetType@Redfish.AllowableValues"`
	Transfers  list[text] `json:"TransferProtocol@Redfish.AllowableValues"`
	Info       string     `json:"@Redfish.ActionInfo"`
}

type actionInfo struct {
	Parameters []struct {
		Name            text
		AllowableValues list[text]
	}
}

type bootOverride struct {
	Enabled text       `json:"BootSourceOverrideEnabled"`
	Target  text       `json:"BootSourceOverrideTarget"`
	Mode    text       `json:"BootSourceOverrideMode"`
	Targets list[text] `json:"BootSourceOverrideTarget@Redfish.AllowableValues"`
	Modes   list[text] `json:"BootSourceOverrideMode@Redfish.AllowableValues"`
}

type settingsObject struct {
	SettingsObject      link
	SupportedApplyTimes list[text]
}

type system struct {
	ID           text `json:"Id"`
	Name         text
	UUID         text
	Manufacturer text
	Model        text
	SerialNumber text
	SKU          text
	PartNumber   text
	AssetTag     text
	BiosVersion  text
	HostName     text
	PowerState   text
	IndicatorLED *text
	Indicators   list[text] `json:"IndicatorLED@Redfish.AllowableValues"`
	Located      *bool      `json:"LocationIndicatorActive"`
	Status       health
	Boot         *bootOverride
	Settings     settingsObject `json:"@Redfish.Settings"`
	Bios         link
	Processors   link
	Memory       link
	Storage      link
	Simple       link `json:"SimpleStorage"`
	Ethernet     link `json:"EthernetInterfaces"`
	LogServices  link
	VirtualMedia link
	PCIeDevices  list[link]
	Serial       struct {
		SSH struct {
			ServiceEnabled      bool
			Port                number
			ConsoleEntryCommand text
		}
	} `json:"SerialConsole"`
	Links struct {
		Chassis   list[link]
		ManagedBy list[link]
	}
	Actions struct {
		Reset action `json:"#ComputerSystem.Reset"`
	}
}

type shellService struct {
	ServiceEnabled        *bool
	ConnectTypesSupported list[text]
}

func (s shellService) ssh() bool {
	if s.ServiceEnabled != nil && !*s.ServiceEnabled {
		return false
	}
	return contains(s.ConnectTypesSupported, "SSH")
}

type controller struct { // the Manager of the schemas
	ID              text `json:"Id"`
	Name            text
	ManagerType     text
	Manufacturer    text
	Model           text
	FirmwareVersion text
	UUID            text
	SerialNumber    text
	PartNumber      text
	Status          health
	Ethernet        link `json:"EthernetInterfaces"`
	NetworkProtocol link
	LogServices     link
	VirtualMedia    link
	SerialConsole   shellService
	CommandShell    shellService
	Actions         struct {
		Reset action `json:"#Manager.Reset"`
	}
}

type chassis struct {
	link
	ID              text `json:"Id"`
	Name            text
	ChassisType     text
	Manufacturer    text
	Model           text
	SerialNumber    text
	PartNumber      text
	AssetTag        text
	IndicatorLED    *text
	Located         *bool `json:"LocationIndicatorActive"`
	Status          health
	Thermal         link
	Power           link
	PowerSubsystem  link
	Sensors         link
	LogServices     link
	NetworkAdapters link
	PCIeDevices     link
}

type threshold struct{ Reading number }

type sensor struct {
	ID              text `json:"Id"`
	Name            text
	Reading         number
	ReadingType     text
	ReadingUnits    text
	PhysicalContext text
	Status          health
	Thresholds      struct {
		LowerCritical, LowerCaution, UpperCaution, UpperCritical, LowerFatal, UpperFatal threshold
	}
}

type limits struct {
	Status                    health
	LowerThresholdCritical    number
	LowerThresholdNonCritical number
	UpperThresholdNonCritical number
	UpperThresholdCritical    number
}

type thermal struct {
	Temperatures []struct {
		limits
		Name           text
		ReadingCelsius number
	}
	Fans []struct {
		limits
		Name, FanName text
		Reading       number
		ReadingUnits  text
	}
}

type power struct {
	Voltages []struct {
		limits
		Name         text
		ReadingVolts number
	}
	PowerControl []struct {
		Name               text
		PowerConsumedWatts number
		Status             health
	}
	PowerSupplies []powerSupply
}

type powerSupply struct {
	MemberID             text `json:"MemberId"`
	ID                   text `json:"Id"`
	Name                 text
	Manufacturer         text
	Model                text
	SerialNumber         text
	PartNumber           text
	SparePartNumber      text
	FirmwareVersion      text
	PowerCapacityWatts   number
	PowerOutputWatts     number
	LastPowerOutputWatts number
	Status               health
}

type logService struct {
	link
	ID           text `json:"Id"`
	Name         text
	LogEntryType text
	Entries      link
	Enabled      *bool `json:"ServiceEnabled"`
	Actions      struct {
		Clear action `json:"#LogService.ClearLog"`
	}
}

type logEntry struct {
	ID              text `json:"Id"`
	Created         moment
	EventTimestamp  moment
	EntryCode       text
	SensorType      text
	Severity        text
	Message         text
	MessageID       text `json:"MessageId"`
	Name            text
	Resolved        bool
	MessageSeverity text
	EventID         text `json:"EventId"`
	Origin          link `json:"OriginOfCondition"`
	Links           struct{ OriginOfCondition link }
}

type event struct {
	Events []logEntry
}

type processor struct {
	ID              text `json:"Id"`
	Name            text
	Socket          text
	ProcessorType   text
	Manufacturer    text
	Model           text
	SerialNumber    text
	PartNumber      text
	FirmwareVersion text
	TotalCores      number
	TotalThreads    number
	MaxSpeedMHz     number
	Status          health
}

type memory struct {
	ID                text `json:"Id"`
	Name              text
	DeviceLocator     text
	Manufacturer      text
	SerialNumber      text
	PartNumber        text
	CapacityMiB       number
	OperatingSpeedMhz number
	DeviceType        text `json:"MemoryDeviceType"`
	FirmwareRevision  text
	Status            health
}

type storage struct {
	ID                 text `json:"Id"`
	Name               text
	Drives             list[link]
	StorageControllers []storageController
	Controllers        link
	Status             health
}

type storageController struct {
	ID                           text `json:"Id"`
	MemberID                     text `json:"MemberId"`
	Name                         text
	Manufacturer                 text
	Model                        text
	SerialNumber                 text
	PartNumber                   text
	FirmwareVersion              text
	Status                       health
	SupportedControllerProtocols list[text]
}

type identifier struct{ DurableName, DurableNameFormat text }

type drive struct {
	ID               text `json:"Id"`
	Name             text
	Manufacturer     text
	Model            text
	SerialNumber     text
	PartNumber       text
	Revision         text
	FirmwareVersion  text
	CapacityBytes    number
	MediaType        text
	Protocol         text
	Identifiers      list[identifier]
	PhysicalLocation struct {
		PartLocation struct{ ServiceLabel text }
	}
	Status health
}

type simpleStorage struct {
	ID      text `json:"Id"`
	Name    text
	Devices []struct {
		Name, Manufacturer, Model text
		CapacityBytes             number
		Status                    health
	}
}

type adapter struct {
	ID           text `json:"Id"`
	Name         text
	Manufacturer text
	Model        text
	SerialNumber text
	PartNumber   text
	Ports        link
	NetworkPorts link
	Controllers  []struct{ FirmwarePackageVersion text }
	Status       health
}

type port struct {
	ID                   text `json:"Id"`
	Name                 text
	PhysicalPortNumber   text
	PortID               text       `json:"PortId"`
	Addresses            list[text] `json:"AssociatedNetworkAddresses"`
	CurrentLinkSpeedMbps number
	CurrentSpeedGbps     number
	LinkStatus           text
	Ethernet             struct {
		AssociatedMACAddresses list[text]
	}
	Status health
}

type ipv4 struct {
	Address       text `json:",omitempty"`
	SubnetMask    text `json:",omitempty"`
	Gateway       text `json:",omitempty"`
	AddressOrigin text `json:",omitempty"`
}

type ethernet struct {
	link
	ID                  text `json:"Id"`
	Name                text
	MACAddress          text
	PermanentMACAddress text
	SpeedMbps           number
	LinkStatus          text
	InterfaceEnabled    *bool
	HostName            text
	FQDN                text
	IPv4Addresses       list[ipv4]
	IPv4StaticAddresses list[ipv4]
	DHCPv4              struct{ DHCPEnabled *bool }
	StaticNameServers   list[text]
	NameServers         list[text]
	VLAN                struct {
		VLANEnable *bool
		VLANID     number `json:"VLANId"`
	}
	Status health
}

type pcieDevice struct {
	ID              text `json:"Id"`
	Name            text
	Manufacturer    text
	Model           text
	SerialNumber    text
	PartNumber      text
	FirmwareVersion text
	Functions       link `json:"PCIeFunctions"`
	Status          health
	Links           struct {
		Functions list[link] `json:"PCIeFunctions"` // of before version 1.4
	}
}

type pcieFunction struct {
	ID          text `json:"Id"`
	DeviceClass text
	VendorID    text `json:"VendorId"`
}

type protocol struct {
	ProtocolEnabled *bool
	Port            number
}

type networkProtocol struct {
	link
	HostName text
	FQDN     text
	NTP      struct {
		ProtocolEnabled *bool
		NTPServers      list[text]
	}
	SSH, IPMI, SNMP, SSDP, Telnet, VirtualMedia, KVMIP protocol
}

type account struct {
	link
	ID       text `json:"Id"`
	UserName text
	RoleID   text `json:"RoleId"`
	Enabled  *bool
	Locked   *bool
}

type bios struct {
	Attributes map[string]any
	Settings   settingsObject `json:"@Redfish.Settings"`
}

type software struct {
	link
	ID         text `json:"Id"`
	Name       text
	Version    text
	Updateable *bool
	Status     health
}

type updateService struct {
	link
	ServiceEnabled       *bool
	FirmwareInventory    link
	MultipartHTTPPushURI string `json:"MultipartHttpPushUri"`
	HTTPPushURI          string `json:"HttpPushUri"`
	HTTPPushURITargets   *[]any `json:"HttpPushUriTargets"`
	Actions              struct {
		Simple action `json:"#UpdateService.SimpleUpdate"`
	}
}

type task struct {
	link
	ODataType       string `json:"@odata.type"`
	TaskState       text
	TaskStatus      text
	PercentComplete number
	Messages        list[message]
	TaskMonitor     string
}

type eventService struct {
	ServiceEnabled *bool
	SSE            string                         `json:"ServerSentEventUri"`
	Filters        struct{ EventFormatType bool } `json:"SSEFilterPropertiesSupported"`
}

type virtualMedia struct {
	link
	ID         text `json:"Id"`
	Name       text
	MediaTypes list[text]
	Inserted   *bool
	Image      text
	Actions    struct {
		Insert action `json:"#VirtualMedia.InsertMedia"`
		Eject  action `json:"#VirtualMedia.EjectMedia"`
	}
}
