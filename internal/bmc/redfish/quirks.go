package redfish

import "strings"

// quirk is what a family of controllers does in its own way. The zero value is the standard. A family is recognized by what its service root says; nothing
// else in this room knows of vendors.
type quirk struct {
	// What it is recognized by: the start of Vendor or Product, or a key of Oem. All without regard to case.
	vendor, product, oem string

	// expand says how to ask for members with their collection, in place of what the service root offers; "no" is not at all.
	expand string
	// match is sent as If-Match in place of the ETag; "no" sends none.
	match string
	// mode: a change of the boot override has to say UEFI or legacy, or the mode falls back to one of the controller's choice.
	mode bool
	// cd are the names for a boot from CD, the one that works first.
	cd []string
	// logs are the log services of hardware events, by Id, the best first.
	logs []string
	// serial is the command that leads from the command shell (ssh) to the serial line.
	serial string
	// settingsBoot: the boot override is changed in the system's settings object.
	settingsBoot bool
	// notInstalled are starts of the Id of firmware that is kept, not running.
	notInstalled []string
	// slots: accounts are a fixed number of places that are filled and emptied, not made and deleted.
	slots bool
	// staged: what is pushed is only stored; SimpleUpdate installs it.
	staged bool
}

var quirks = []quirk{
	{
		// iDRAC: "console com2" is in its user's guide (serial console over ssh); firmware inventory has Installed-, Previous-, Available-; accounts 1 to 16 are
		// there always, number 1 is reserved; HttpPushUri stores the image and answers with the path for SimpleUpdate.
		vendor: "Dell", oem: "Dell", expand: "*($levels=1)", logs: []string{"Sel"}, serial: "console com2",
		notInstalled: []string{"Previous-", "Available-"}, slots: true, staged: true,
	},
	{vendor: "HPE", oem: "Hpe", logs: []string{"IML", "SL"}, serial: "vsp"}, // iLO: the Integrated Management Log is the system's
	{vendor: "Hewlett", oem: "Hp", expand: "no", logs: []string{"IML"}, serial: "vsp"},
	{vendor: "Lenovo", oem: "Lenovo", logs: []string{"PlatformLog", "StandardLog", "ActiveLog"}, serial: "console 1"},
	// Its boot override falls back to legacy when the mode is not said (DMTF/Redfishtool#106), and "Cd" is a drive inside the machine.
	{vendor: "Supermicro", oem: "Supermicro", mode: true, cd: []string{"UsbCd", "Cd"}, logs: []string{"Log1"}, serial: "cd system1/sol1\rstart"},
	{vendor: "AMI", product: "AMI Redfish", oem: "Ami", settingsBoot: true, logs: []string{"SEL", "EventLog"}}, // every PATCH wants If-Match
	{vendor: "OpenBMC", oem: "OpenBmc", logs: []string{"SEL", "EventLog"}},
}

// quirkOf finds the family of a controller: by vendor or product first, since some carry Oem keys of those whose firmware they build on.
func quirkOf(r serviceRoot) quirk {
	starts := func(said text, with string) bool {
		return with != "" && strings.HasPrefix(strings.ToLower(string(said)), strings.ToLower(with))
	}
	for _, q := range quirks {
		if starts(r.Vendor, q.vendor) || starts(r.Product, q.product) {
			return q
		}
	}
	for _, q := range quirks {
		for k := range r.Oem {
			if strings.EqualFold(k, q.oem) {
				return q
			}
		}
	}
	return quirk{}
}
