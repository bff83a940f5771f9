package sim

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/stmcginnis/gofish"
	"github.com/stmcginnis/gofish/schemas"
)

// gofishClient logs in by session where the vendor has them, else by name and password, and verifies the certificate.
func gofishClient(t *testing.T, f *Fleet, b *bmc) *gofish.APIClient {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AddCert(f.web.authority)
	c, err := gofish.Connect(gofish.ClientConfig{
		Endpoint: "https://" + b.address.String(), Username: "admin", Password: "secret", BasicAuth: !b.redfish.profile.sessions, NoModifyTransport: true,
		HTTPClient: &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Logout)
	return c
}

// some wants a list of n without an error; 0 is any number but none.
func some[T any](t *testing.T, what string, n int) func([]T, error) []T {
	return func(all []T, err error) []T {
		t.Helper()
		if err != nil || n > 0 && len(all) != n || len(all) == 0 {
			t.Fatalf("%s: %d, want %d: %v", what, len(all), n, err)
		}
		return all
	}
}

// Gofish walks all that a controller has, of each vendor, and changes what can be changed.
func TestGofish(t *testing.T) {
	f := startFleet(t, Options{Redfish: len(profiles), Delay: time.Millisecond})
	for i := range f.bmcs {
		b := &f.bmcs[i]
		p := b.redfish.profile
		t.Run(p.name, func(t *testing.T) {
			b.turn(true)
			c := gofishClient(t, f, b)
			system := some[*schemas.ComputerSystem](t, "systems", 1)(c.Service.Systems())[0]
			if system.PowerState != schemas.OnPowerState || system.SerialNumber != b.machine.serial() || system.Model != p.machine {
				t.Errorf("system: %s %s %s", system.PowerState, system.SerialNumber, system.Model)
			}
			some[*schemas.Processor](t, "processors", cpus)(system.Processors())
			some[*schemas.Memory](t, "memory", dimms)(system.Memory())
			nics := some[*schemas.EthernetInterface](t, "interfaces", ports)(system.EthernetInterfaces())
			if nics[0].MACAddress != macText(b.machine.mac(1)) && nics[1].MACAddress != macText(b.machine.mac(1)) {
				t.Errorf("MAC addresses %s %s, want %s", nics[0].MACAddress, nics[1].MACAddress, macText(b.machine.mac(1)))
			}
			store := some[*schemas.Storage](t, "storage", 1)(system.Storage())[0]
			if d := some[*schemas.Drive](t, "drives", drives)(store.Drives()); len(d[0].Identifiers) == 0 || d[0].Identifiers[0].DurableName == "" {
				t.Error("a drive has no WWN")
			}
			some[*schemas.PCIeDevice](t, "PCIe", 1)(system.PCIeDevices())
			bios, err := system.Bios()
			if err != nil || len(bios.Attributes) != len(p.biosNames) {
				t.Errorf("BIOS: %v %v", bios, err)
			}

			chassis := some[*schemas.Chassis](t, "chassis", 1)(c.Service.Chassis())[0]
			some[*schemas.NetworkAdapter](t, "adapters", 1)(chassis.NetworkAdapters())
			if p.thermal {
				thermal, err := chassis.Thermal()
				if err != nil || len(thermal.Temperatures) != 4 || len(thermal.Fans) != 3 || thermal.Fans[0].Reading == nil {
					t.Errorf("thermal: %+v %v", thermal, err)
				}
				if power, err := chassis.Power(); err != nil || len(power.Voltages) != 2 || len(power.PowerSupplies) != 2 {
					t.Errorf("power: %+v %v", power, err)
				}
			}
			if p.sensors {
				some[*schemas.Sensor](t, "sensors", len(sensors))(chassis.Sensors())
			}

			manager := some[*schemas.Manager](t, "managers", 1)(c.Service.Managers())[0]
			some[*schemas.EthernetInterface](t, "manager's interfaces", 1)(manager.EthernetInterfaces())
			if _, err := manager.NetworkProtocol(); err != nil {
				t.Error(err)
			}
			var logs []*schemas.LogService
			if slices.ContainsFunc(p.logs, func(l logService) bool { return l.owner == "Systems" }) {
				logs = append(logs, some[*schemas.LogService](t, "logs of the system", 0)(system.LogServices())...)
			}
			if slices.ContainsFunc(p.logs, func(l logService) bool { return l.owner == "Managers" }) {
				logs = append(logs, some[*schemas.LogService](t, "logs of the controller", 0)(manager.LogServices())...)
			}
			for _, l := range logs {
				if i := slices.IndexFunc(p.logs, func(s logService) bool { return s.id == l.ID }); !p.logs[i].hardware {
					continue
				}
				some[*schemas.LogEntry](t, "entries", 0)(l.Entries())
				if _, err := l.ClearLog(""); err != nil {
					t.Error(err)
				}
				if left, err := l.Entries(); err != nil || len(left) != 0 {
					t.Errorf("%d entries after clear: %v", len(left), err)
				}
			}
			media := system.VirtualMedia
			if !p.mediaSystem {
				media = manager.VirtualMedia
			}
			medium := some[*schemas.VirtualMedia](t, "media", len(p.media))(media())[0]
			if _, err := medium.InsertMedia(&schemas.VirtualMediaInsertMediaParameters{Image: "http://10.0.0.1/x.iso"}); err != nil {
				t.Error(err)
			}
			if again := some[*schemas.VirtualMedia](t, "media", 0)(media())[0]; again.Inserted == nil || !*again.Inserted || again.Image != "http://10.0.0.1/x.iso" {
				t.Errorf("inserted: %v %s", again.Inserted, again.Image)
			}

			if err := system.SetBoot(&schemas.Boot{BootSourceOverrideTarget: schemas.PxeBootSource, BootSourceOverrideEnabled: schemas.OnceBootSourceOverrideEnabled}); err != nil {
				t.Error(err)
			}
			if _, err := system.Reset(schemas.ForceRestartResetType); err != nil {
				t.Error(err)
			}
			if _, err := system.Reset(schemas.ForceOffResetType); err != nil {
				t.Error(err)
			}
			eventually(t, "power off", func() bool {
				all, err := c.Service.Systems()
				return err == nil && all[0].PowerState == schemas.OffPowerState
			})

			accounts, err := c.Service.AccountService()
			if err != nil {
				t.Fatal(err)
			}
			all := some[*schemas.ManagerAccount](t, "accounts", 0)(accounts.Accounts())
			if !slices.ContainsFunc(all, func(a *schemas.ManagerAccount) bool { return a.UserName == "admin" && a.RoleID == "Administrator" }) {
				t.Errorf("no administrator in %+v", all)
			}
			update, err := c.Service.UpdateService()
			if err != nil {
				t.Fatal(err)
			}
			some[*schemas.SoftwareInventory](t, "firmware", 3)(update.FirmwareInventory())
			if events, err := c.Service.EventService(); err != nil || (events.ServerSentEventURI != "") != p.events {
				t.Errorf("events: %+v %v", events, err)
			}
			if _, err := c.Service.Tasks(); err != nil {
				t.Error(err)
			}
			if p.sessions {
				service, err := c.Service.SessionService()
				if err != nil {
					t.Fatal(err)
				}
				some[*schemas.Session](t, "sessions", 1)(service.Sessions())
			}
		})
	}
}

// Every reference in every document leads to a document, of each vendor.
func TestRedfish_no_link_leads_nowhere(t *testing.T) {
	f := startFleet(t, Options{Redfish: len(profiles)})
	for i := range f.bmcs {
		b := &f.bmcs[i]
		seen := map[string]bool{}
		var walk func(v view, x any)
		walk = func(v view, x any) {
			switch x := x.(type) {
			case object:
				if at, ok := x["@odata.id"].(string); ok && len(x) == 1 && !seen[at] {
					seen[at] = true
					doc, ok := v.resource(at)
					if !ok {
						t.Errorf("%s: nothing at %s", v.p.name, at)
						return
					}
					if doc["@odata.id"] != at {
						t.Errorf("%s: %s says it is %v", v.p.name, at, doc["@odata.id"])
					}
					walk(v, doc)
				}
				for k, y := range x {
					if k != "@odata.id" {
						walk(v, y)
					}
				}
			case []object:
				for _, y := range x {
					walk(v, y)
				}
			}
		}
		f.ask(b, func(v view) { doc, _ := v.resource(root); walk(v, doc) })
		if len(seen) < 50 {
			t.Errorf("%s has %d resources", b.redfish.profile.name, len(seen))
		}
		t.Log(b.redfish.profile.name, len(seen), "resources")
	}
	if len(profiles) < 4 {
		t.Error(fmt.Sprint(len(profiles)) + " vendors, want four at least")
	}
}
