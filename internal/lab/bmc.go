package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/bougou/go-ipmi/pkg/bmc"
	"github.com/bougou/go-ipmi/pkg/clock"
	"github.com/bougou/go-ipmi/pkg/hal"
	"github.com/bougou/go-ipmi/pkg/handlers"
	"github.com/bougou/go-ipmi/pkg/server"
	"github.com/bougou/go-ipmi/pkg/types"
	"github.com/google/uuid"

	"muster/internal/lab/board"
	"muster/internal/model"
)

// controller is the BMC of one machine on its own address, UDP 623. Sessions, users and framing are those of go-ipmi's
// server; chassis, log, sensors and serial over LAN are ours, since they are about the machine.
type controller struct {
	chassis *chassis
	sol     *sol
	server  *server.Server
}

const (
	rmcpPort    = 623
	lanChannel  = 1
	maxSessions = 32 // go-ipmi's 4 are soon held by clients that were killed, for a minute each
)

// listen makes the BMC and its socket. serve runs it.
func listen(c *chassis, m Machine, user string, password model.Secret) (*controller, error) {
	address := net.JoinHostPort(m.BMC, fmt.Sprint(rmcpPort))
	ip, err := netip.ParseAddr(m.BMC)
	if err != nil {
		return nil, err
	}
	id, err := uuid.Parse(m.UUID)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", m.Name, err)
	}
	conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(ip, rmcpPort)))
	if err != nil {
		return nil, fmt.Errorf("BMC of %s on %s: %w", m.Name, address, err)
	}
	hardware := &hardware{fru: fruOf(m), network: hal.IPConfig{
		IP: ip.As4(), Mask: [4]byte{255, 255, 255, 255}, MAC: [6]byte{0x52, 0x54, 0x00, 0x78, 0x00, ip.As4()[3]}, Port: rmcpPort,
	}}
	b := bmc.New(bmc.DeviceInfo{
		DeviceID: 0x20, DeviceRevision: 1, FirmwareMajor: 1, IPMIVersion: 0x02, // 2.0: the low digit is the major one
		AdditionalDeviceSupport: 0x8f, // chassis, FRU, SEL, SDR, sensors (table 20-2)
	}, smbiosUUID(id), hardware, bmc.WithV15Disabled(), bmc.WithCipherSuites([]types.CipherSuiteID{types.CipherSuiteID3, types.CipherSuiteID17}))
	u, err := b.Users.Add(2, user)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	u.SetPassword([]byte(password.Reveal()))
	u.Enabled = true
	u.ChannelAccess[lanChannel] = bmc.UserChannelAccess{MaxPrivilege: bmc.PrivilegeLevelAdministrator, Enabled: true}

	s := newSOL(b, conn, c)
	b.Sessions = bmc.NewSessionStoreWithOptions(clock.Real, bmc.WithMaxSessions(maxSessions))
	b.Sessions.SetOnRemove(s.sessionEnded)
	_ = b.SOL.Config().SetParam(3, []byte{2, board.MaxCharacters})        // collect for 10 ms, or until a packet is full
	_ = b.SOL.Config().SetParam(4, []byte{7, byte(retryInterval / 10e6)}) // as we do it: see sol

	r := handlers.NewRegistry()
	handlers.RegisterAllHandlers(r)
	registerChassis(r, c)
	registerLog(r, c.sel)
	registerSensors(r, c)
	s.register(r)
	return &controller{chassis: c, sol: s, server: server.NewServer(b, s, server.WithHandlerRegistry(r))}, nil
}

// serve answers until ctx ends.
func (c *controller) serve(ctx context.Context) error {
	stopped := context.AfterFunc(ctx, func() { _ = c.server.Close() })
	defer stopped()
	err := c.server.Serve(ctx)
	c.sol.close()
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// smbiosUUID is the form in which BMC and SMBIOS carry a UUID: the first three fields little-endian (IPMI 2.0 §20.8).
func smbiosUUID(u uuid.UUID) [16]byte {
	return [16]byte{u[3], u[2], u[1], u[0], u[5], u[4], u[7], u[6], u[8], u[9], u[10], u[11], u[12], u[13], u[14], u[15]}
}

// fruOf is the inventory of the machine: what is written on its label.
func fruOf(m Machine) []byte {
	fru, err := types.PackFRU(types.FRUPackConfig{
		Chassis: &types.FRUPackChassis{Type: 0x17, PartNumber: "lab-1", Serial: m.Name}, // rack mount chassis
		Product: &types.FRUPackProduct{Manufacturer: "muster", Name: "lab machine", Version: "1", Serial: m.UUID[:8]},
	})
	if err != nil {
		panic(err) // the fields are ours and short
	}
	return fru
}

// hardware gives go-ipmi's handlers what they serve by themselves: SDR and FRU contents and the address of the BMC.
type hardware struct {
	fru     []byte
	network hal.IPConfig
}

func (h *hardware) Chassis() hal.ChassisHAL { return nil }
func (h *hardware) Sensors() hal.SensorHAL  { return nil }
func (h *hardware) GPIO() hal.GPIOHAL       { return nil }
func (h *hardware) I2C() hal.I2CHAL         { return nil }
func (h *hardware) Close() error            { return nil }

func (h *hardware) Storage() hal.StorageHAL { return h }
func (h *hardware) Network() hal.NetworkHAL { return h }
func (h *hardware) Console() hal.ConsoleHAL { return h }
func (h *hardware) FRU() hal.FRUStore       { return fruStore{h.fru} }
func (h *hardware) SDR() hal.SDRStore       { return sdrStore{} }

func (h *hardware) GetConfig(context.Context) (*hal.IPConfig, error) { c := h.network; return &c, nil }
func (h *hardware) SetConfig(context.Context, *hal.IPConfig) error   { return hal.ErrNotSupported }

// Open is never called: it makes go-ipmi say that serial over LAN is supported, and our handlers activate it.
func (h *hardware) Open(context.Context) (hal.ConsoleConn, error) { return nil, hal.ErrNotSupported }

type fruStore struct{ builtin []byte }

func (f fruStore) Read(_ context.Context, id uint8) ([]byte, error) {
	if id != 0 {
		return nil, hal.ErrNotFound
	}
	return f.builtin, nil
}
func (fruStore) Write(context.Context, uint8, []byte) error { return hal.ErrNotSupported }
func (fruStore) Delete(context.Context, uint8) error        { return hal.ErrNotSupported }
func (fruStore) DeviceIDs(context.Context) ([]uint8, error) { return []uint8{0}, nil }

// sdrStore is the same for all machines: record n+1 is sensor n, then the power state, then the BMC itself.
type sdrStore struct{}

func (sdrStore) RecordIDs(context.Context) ([]uint16, error) {
	var ids []uint16
	for i := range len(sensors) + 2 {
		ids = append(ids, uint16(i+1))
	}
	return ids, nil
}

func (sdrStore) Read(_ context.Context, id uint16) ([]byte, error) {
	switch n := int(id) - 1; {
	case n >= 0 && n < len(sensors):
		return sensors[n].Record(id), nil
	case n == len(sensors):
		return power.Record(id), nil
	case n == len(sensors)+1:
		return types.PackMCLocator(types.MCLocatorPackOpts{RecordID: id, DeviceSupport: 0x8f, Name: "BMC"}), nil
	}
	return nil, hal.ErrNotFound
}
func (sdrStore) Write(context.Context, uint16, []byte) error { return hal.ErrNotSupported }
func (sdrStore) Delete(context.Context, uint16) error        { return hal.ErrNotSupported }
