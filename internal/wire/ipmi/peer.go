package ipmi

import (
	"crypto/hmac"
	"fmt"
	"time"
)

// Config is what a [Peer] needs to know of its BMC, and how patient it is. The zero durations stand for the values
// that are told with each field.
type Config struct {
	User     string // at most 16 octets
	Password string // at most 20 octets
	// Suite is tried first; zero means 17. A BMC that refuses 17 is tried with 3, one that does not answer and then says
	// that it has nothing else with IPMI 1.5. Known, when not zero, is what an earlier session of the same BMC has found.
	Suite Suite
	Known Suite
	// Rand fills the slice with random octets: session ids, nonces, initialization vectors.
	Rand func([]byte)
	// Waits are the times between the sendings of one packet and after the last: 0.5, 1, 2, 4 s.
	Waits []time.Duration
	// KeepAlive is the time without an answer after which the BMC is asked something harmless: 30 s, half of the time
	// after which a BMC drops the session (§6.12.15).
	KeepAlive time.Duration
	// Idle is how long a session stays open with nobody asking and no serial line: 2 min.
	Idle time.Duration
}

var usualWaits = []time.Duration{500 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second}

const (
	// proof is how recently the BMC must have been heard for its session to count as alive: a command that must not be
	// done twice is preceded by a harmless one otherwise, and a command that stays unanswered leads to a new session
	// after sendsUnproved sendings instead of all.
	proof         = 5 * time.Second
	sendsUnproved = 2
	restarts      = 6                      // fresh starts of the setup in a row
	doubtsMost    = 2                      // of them, after a proof of the password that the BMC refused
	restartPause  = time.Second            // before a fresh start when the BMC had no session left
	busyPause     = 250 * time.Millisecond // before a command is repeated that the BMC was too busy for
	busyMost      = 20
	serialRounds  = 6 // times that a serial line is taken away from others
)

// EventKind says what an [Event] is about.
type EventKind int

// The kinds of events.
const (
	Answered     EventKind = iota + 1 // a request of Do has ended: ID, and Data or Err
	SessionOpen                       // a session is open: Suite
	SessionEnd                        // there is no session any more
	SerialOpen                        // the serial line is connected
	SerialData                        // Data came from the machine; valid until the next call of the peer
	SerialRoom                        // there is room for Write again
	SerialClosed                      // the serial line has ended; Err says why, nil after CloseSerial
)

// Event is what the caller is to be told.
type Event struct {
	Kind  EventKind
	ID    uint64
	Data  []byte
	Suite Suite
	Err   error
}

// call is one request on its way.
type call struct {
	id       uint64 // 0: our own
	request  Request
	name     string
	done     func(now time.Time, data []byte, err *Error) // for our own
	quiet    bool                                         // not worth opening another session for
	number   byte                                         // 6 bits, as in the message
	sends    int
	most     int // sendings on this session before it is taken for lost
	busy     int
	reopened bool
	line     bool // asks for the serial line
	at       time.Time
}

// Peer is our side of the talk with one BMC. Its methods are to be called one at a time. After each of them the caller
// sends [Peer.Packets], handles [Peer.Events] and calls [Peer.Tick] not later than [Peer.Next].
type Peer struct {
	cfg Config

	live      *channel // the open session, nil when there is none
	setup     *setup   // the session on its way, nil when there is none; both while an open one is in doubt
	old       bool     // IPMI 1.5 may be spoken
	suite     Suite    // that the next setup tries
	fallback  bool
	privilege Privilege
	starts    int // setups in a row since begin
	doubts    int // of them, begun because a refusal of a proven password was not believed

	calls   []*call // in order; the first is on its way when current
	current bool
	ids     uint64
	number  byte

	heard time.Time // the BMC's newest proven packet
	kept  time.Time // its newest answer to a command: what the BMC counts as activity
	used  time.Time // newest request of the caller

	line         *serial // connected
	wantSerial   bool    // being connected
	attempt      uint64  // counts the calls of OpenSerial
	after        uint32  // sequence of the newest serial packet, at first of the answer that connected
	encryptLine  bool    // the line is encrypted
	full         bool    // Write has refused octets
	owner        []byte  // of the line, as the BMC told when it was connected; nil: not told yet
	ownerUnknown bool    // the BMC does not tell
	seq          uint32  // sequence of the packet being handled

	packets [][]byte
	events  []Event
}

// NewPeer returns a peer that has no session yet. It refuses users, passwords and suites that cannot be.
func NewPeer(c Config) (*Peer, error) {
	if len(c.User) > 16 {
		return nil, fmt.Errorf("user %q is longer than the 16 octets that IPMI allows", c.User)
	}
	if len(c.Password) > 20 {
		return nil, fmt.Errorf("the password is longer than the 20 octets that IPMI allows")
	}
	if c.Suite == 0 {
		c.Suite = Suite17
	}
	old := len(c.Password) <= 16 // a longer one cannot be said in IPMI 1.5
	if !old && c.Known == IPMI15 {
		c.Known = c.Suite
	}
	if c.Known == 0 {
		c.Known = c.Suite
	}
	for _, s := range []Suite{c.Suite, c.Known} {
		if _, ok := s.algorithms(); !ok && s != IPMI15 {
			return nil, fmt.Errorf("cipher suite %d is not known here; 3 and 17 are", int(s))
		}
	}
	if c.Waits == nil {
		c.Waits = usualWaits
	}
	if c.KeepAlive == 0 {
		c.KeepAlive = 30 * time.Second
	}
	if c.Idle == 0 {
		c.Idle = 2 * time.Minute
	}
	return &Peer{cfg: c, old: old, suite: c.Known, privilege: Administrator}, nil
}

// Packets returns what is to be sent to the BMC, in order, and forgets it. The packets are the caller's, the slice that
// holds them is used again by the next call.
func (p *Peer) Packets() [][]byte {
	out := p.packets
	p.packets = p.packets[:0]
	return out
}

// Events returns what happened and forgets it. The slice is used again by the next call.
func (p *Peer) Events() []Event {
	out := p.events
	p.events = p.events[:0]
	return out
}

// Owns says whether a packet with the id that [Addressee] told is for this peer: chosen by it for a session that is
// open or on its way, or zero while one is on its way.
func (p *Peer) Owns(id uint32) bool {
	if id == 0 {
		return p.setup != nil
	}
	return p.live != nil && p.live.console == id || p.setup != nil && p.setup.console == id
}

// Open says whether there is a session, on its way or open.
func (p *Peer) Open() bool { return p.live != nil || p.setup != nil }

// Session names the open session: "suite 17"; empty when there is none.
func (p *Peer) Session() string {
	if p.live == nil {
		return ""
	}
	return p.live.suite.String()
}

// Do queues a request and returns the id that its Answered event will carry. Requests are sent one at a time.
func (p *Peer) Do(now time.Time, r Request, name string) uint64 {
	p.ids++
	p.used = now
	p.calls = append(p.calls, &call{id: p.ids, request: r, name: name})
	p.advance(now)
	return p.ids
}

// Cancel forgets a request that nobody waits for any more. What was sent stays sent: then the result is true.
func (p *Peer) Cancel(now time.Time, id uint64) (sent bool) {
	if p.current && p.calls[0].id == id {
		sent = p.calls[0].sends > 0
		p.drop(0)
	}
	p.forget(func(c *call) bool { return c.id == id })
	p.advance(now)
	return sent
}

// forget drops calls that are not on their way, and the setup when nothing waits for it any more.
func (p *Peer) forget(which func(*call) bool) {
	for i := len(p.calls) - 1; i >= 0 && (i > 0 || !p.current); i-- {
		if which(p.calls[i]) {
			p.drop(i)
		}
	}
	if len(p.calls) == 0 && p.line == nil {
		p.setup = nil
	}
}

func (p *Peer) drop(i int) {
	if i == 0 {
		p.current = false
	}
	p.calls = append(p.calls[:i], p.calls[i+1:]...)
}

// Shutdown ends all: requests and the serial line with Closed, the session by telling the BMC once.
func (p *Peer) Shutdown(now time.Time) {
	p.end(&Error{Cause: Closed}, true)
}

// end drops the session and all that hangs on it.
func (p *Peer) end(why *Error, tell bool) {
	if p.live != nil {
		if tell {
			p.send(p.live.seal(payloadMessage, true, appendMessage(nil, closeSession(p.live.bmc), p.nextNumber())))
		}
		p.events = append(p.events, Event{Kind: SessionEnd})
	}
	p.live, p.setup = nil, nil
	p.privilege = Administrator
	p.endSerial(why)
	for _, c := range p.calls {
		if c.id != 0 {
			p.events = append(p.events, Event{Kind: Answered, ID: c.id, Err: why})
		}
	}
	p.calls, p.current = nil, false
}

// lose drops a session that has gone silent, with the serial line and the quiet call that found out. What else waits is
// asked on another session.
func (p *Peer) lose(why *Error) {
	p.drop(0)
	p.live = nil
	p.events = append(p.events, Event{Kind: SessionEnd})
	p.endSerial(why)
}

func (p *Peer) send(b []byte) { p.packets = append(p.packets, b) }

func (p *Peer) nextNumber() byte {
	p.number = (p.number + 1) & 0x3f
	return p.number
}

// Input takes a packet that came from the BMC's address. Packets that are not for this peer, forged, repeated or
// damaged are dropped. The packet is changed by it and not kept.
func (p *Peer) Input(now time.Time, b []byte) {
	if isOld(b) {
		p.inputOld(now, b)
		return
	}
	k, err := parsePacket(b)
	if err != nil {
		return
	}
	if k.kind >= payloadOpenRequest {
		p.inputSetup(now, k)
		p.advance(now)
		return
	}
	if p.live == nil || p.live.old != nil || k.session != p.live.console {
		return
	}
	payload, err := p.live.open(k)
	if err != nil {
		return
	}
	p.heard, p.seq = now, k.sequence
	switch k.kind {
	case payloadMessage:
		p.inputMessage(now, payload)
	case payloadSerial:
		p.inputSerial(now, payload)
	}
	p.advance(now)
}

// inputOld is Input for packets of IPMI 1.5: of a session, of its setup, or the answer what the BMC offers.
func (p *Peer) inputOld(now time.Time, b []byte) {
	k, err := parseOld(b)
	if err != nil || k.authentication != authNone && k.authentication != authMD5 {
		return
	}
	if p.live != nil && p.live.old != nil && k.session == p.live.console && k.sequence != 0 {
		if m, err := p.live.openOld(k); err == nil {
			p.heard, p.seq = now, k.sequence
			p.inputMessage(now, m)
		}
		p.advance(now)
		return
	}
	s := p.setup
	a, ok := parseAnswer(k.message)
	switch {
	case s == nil || !ok:
		return
	case s.step == stepOpen:
		p.inputOffers(now, a)
	case s.step == stepActivate && k.authentication == authMD5 && !hmac.Equal(k.code, oldAuthCode(s.password, k.session, k.sequence, k.message)):
		return
	case s.step == stepActivate && k.session != s.console && k.session != 0:
		return
	case s.step == stepActivate && k.authentication == authNone && a.code == CodeOK && len(a.data) > 0 && a.data[0]&0x0f != authNone:
		return // a session whose packets are proved begins with one that is
	default:
		v, err := s.inputOld(a)
		p.judge(now, v, err)
	}
	p.advance(now)
}

// inputOffers handles the answer what the BMC offers: IPMI 1.5 is spoken with those that say that they have nothing newer.
func (p *Peer) inputOffers(now time.Time, a answer) {
	s := p.setup
	if !s.asked || a.netFn != netFnApp || a.command != capabilities(0, true).Command || a.number != s.tag&0x3f {
		return
	}
	if a.code != CodeOK {
		s.plain = true
		p.send(s.probe(false))
		return
	}
	o, ok := parseCapabilities(a.data)
	switch {
	case !ok || o.rmcpPlus: // it lives: the next Open Session will tell
	case o.md5:
		p.suite = IPMI15
		p.restart(now, nil, 0)
	default:
		p.end(&Error{Cause: NoSuite, Step: "get channel authentication capabilities"}, false)
	}
}

func (p *Peer) inputSetup(now time.Time, k packet) {
	s := p.setup
	if s == nil {
		return
	}
	v, err := s.input(k.kind, k.payload)
	p.judge(now, v, err)
}

// judge goes on as a packet of the setup wants it.
func (p *Peer) judge(now time.Time, v verdict, err *Error) {
	switch v {
	case advanced:
		p.sendSetup(now)
	case opened:
		p.opened(now)
	case restarted:
		p.restart(now, err, 0)
	case refused:
		p.refused(now, err)
	}
}

// refused handles a setup that the BMC has said no to: another suite, a lower privilege, a later attempt, or the end.
func (p *Peer) refused(now time.Time, err *Error) {
	switch {
	case err.Cause == NoSuite && p.suite == Suite17:
		p.suite, p.fallback = Suite3, true
		p.restart(now, err, 0)
	case err.Cause == NoSuite && p.cfg.Known != p.cfg.Suite && !p.fallback: // what was known holds no more
		p.cfg.Known, p.suite, p.fallback = p.cfg.Suite, p.cfg.Suite, true
		p.restart(now, err, 0)
	case err.Cause == NoPrivilege && p.privilege == Administrator:
		p.privilege = Operator
		p.restart(now, err, 0)
	case err.Cause == NoSession:
		p.restart(now, err, restartPause)
	case err.Status != 0 && p.setup.step == stepRAKP3 && (err.Cause == WrongPassword || err.Cause == UnknownUser) && p.doubts < doubtsMost:
		// RAKP 2 has proved that both sides know the same password: such a refusal comes from packets that were doubled
		// on the way, as the BMC made a new random number for the second RAKP 1. It counts as a failed login all the
		// same, so it is not believed to be a mistake often.
		p.doubts++
		p.restart(now, err, 0)
	case err.Cause == WrongPassword && err.Status == 0 && p.setup.step == stepRAKP3: // our own finding: the BMC is told why we go no further
		p.send(p.setup.packet)
		p.end(err, false)
	default:
		p.end(err, false)
	}
}

// begin starts a setup with what is known of the BMC.
func (p *Peer) begin(now time.Time) {
	p.suite, p.fallback, p.starts, p.doubts = p.cfg.Known, false, 0, 0
	p.restart(now, nil, 0)
}

// restart begins the setup again, or gives up with the error after too many starts.
func (p *Peer) restart(now time.Time, err *Error, pause time.Duration) {
	if p.starts++; p.starts > restarts {
		p.end(err, false)
		return
	}
	p.setup = newSetup(&p.cfg, p.suite, p.privilege)
	if pause > 0 {
		p.setup.at = now.Add(pause)
		return
	}
	p.setup.open()
	p.sendSetup(now)
}

func (p *Peer) sendSetup(now time.Time) {
	s := p.setup
	p.send(s.packet)
	if s.step == stepOpen && s.sends > 0 && p.old { // no answer: it may be one that drops packets of IPMI 2.0
		s.asked = true
		p.send(s.probe(!s.plain))
	}
	// Later starts are more patient from their first packet: a slow BMC that we asked twice begins its answer anew.
	s.at = now.Add(p.patience(s.sends + p.starts - 1))
	s.sends++
}

// patience is the time until the next sending, an eighth longer or shorter by chance: thousands of BMCs that fell silent at
// once are not asked again at once.
func (p *Peer) patience(sends int) time.Duration {
	d := p.cfg.Waits[min(sends, len(p.cfg.Waits)-1)]
	var chance [1]byte
	p.cfg.Rand(chance[:])
	return d - d/8 + d*time.Duration(chance[0])/1024
}

// opened makes the new session the live one. What hung on an older session is sent again or has ended.
func (p *Peer) opened(now time.Time) {
	s := p.setup
	lost := p.live != nil
	if s.number == IPMI15 {
		p.live = newOldChannel(s)
	} else {
		p.live = newChannel(&s.exchange, s.number, s.sik, p.cfg.Rand)
	}
	p.setup = nil
	p.cfg.Known, p.fallback = s.number, false
	p.heard, p.kept = now, now
	p.events = append(p.events, Event{Kind: SessionOpen, Suite: s.number})
	if lost && p.line != nil {
		p.endSerial(&Error{Cause: NoAnswer, Step: "the session, which the BMC has forgotten"})
	}
	if p.current {
		p.current, p.calls[0].sends = false, 0
	}
	p.askPrivilege(p.privilege)
}

// askPrivilege raises the session from user, at which every session starts (§22.18).
func (p *Peer) askPrivilege(level Privilege) {
	p.insert(&call{
		request: setPrivilege(level), name: "set session privilege", reopened: true,
		done: func(now time.Time, _ []byte, err *Error) {
			switch {
			case err == nil:
			case err.Cause == Command && level == Administrator:
				p.privilege = Operator
				p.askPrivilege(Operator)
			case err.Cause == Command:
				p.end(&Error{Cause: NoPrivilege, Step: "set session privilege: " + err.Code.String()}, true)
			default:
				p.restart(now, err, 0)
			}
		},
	})
}

// insert puts a call of our own before all that wait.
func (p *Peer) insert(c *call) {
	i := 0
	if p.current {
		i = 1
	}
	p.calls = append(p.calls, nil)
	copy(p.calls[i+1:], p.calls[i:])
	p.calls[i] = c
}

func (p *Peer) inputMessage(now time.Time, payload []byte) {
	a, ok := parseAnswer(payload)
	if !ok || !p.current {
		return
	}
	c := p.calls[0]
	if a.number != c.number || a.command != c.request.Command || a.netFn != c.request.NetFn {
		return
	}
	p.kept = now
	p.setup = nil // the open session is alive after all
	switch a.code {
	case CodeOK:
		p.finish(now, a.data, nil)
	case CodeDuplicate: // the first sending is still being worked on
	case CodeBusy, CodeInitializing:
		if c.busy++; c.busy > busyMost {
			p.finish(now, nil, &Error{Cause: Command, Step: c.name, Code: a.code})
			return
		}
		c.sends, c.at = 0, now.Add(busyPause)
	default:
		p.finish(now, nil, &Error{Cause: Command, Step: c.name, Code: a.code})
	}
}

// finish ends the first call.
func (p *Peer) finish(now time.Time, data []byte, err *Error) {
	c := p.calls[0]
	p.drop(0)
	if c.done != nil {
		c.done(now, data, err)
		return
	}
	e := Event{Kind: Answered, ID: c.id}
	if err != nil {
		e.Err = err
	} else {
		e.Data = append([]byte{}, data...)
	}
	p.events = append(p.events, e)
}

// advance starts what can be started: a session when something waits, the next call, serial packets.
func (p *Peer) advance(now time.Time) {
	if p.live == nil {
		if p.setup == nil && len(p.calls) > 0 {
			p.begin(now)
		}
		return
	}
	if !p.current && len(p.calls) > 0 {
		p.start(now)
	}
	if p.line != nil {
		p.runLine(now)
	}
}

// start sends the first call for the first time.
func (p *Peer) start(now time.Time) {
	silent := now.Sub(p.heard) > proof
	if p.calls[0].request.Once && silent {
		p.insert(&call{request: GetDeviceID(), name: p.calls[0].name, done: func(now time.Time, _ []byte, err *Error) {
			if err != nil && err.Cause != Command {
				p.end(err, false)
			}
		}})
	}
	c := p.calls[0]
	c.number, c.sends, c.most = p.nextNumber(), 0, len(p.cfg.Waits)
	if silent && !c.quiet {
		c.most = min(c.most, sendsUnproved)
	}
	p.current = true
	p.sendCall(now)
}

func (p *Peer) sendCall(now time.Time) {
	c := p.calls[0]
	p.send(p.live.seal(payloadMessage, true, appendMessage(make([]byte, 0, 16+len(c.request.Data)), c.request, c.number)))
	c.at = now.Add(p.patience(c.sends))
	c.sends++
	if c.request.Once {
		for _, d := range p.cfg.Waits[c.sends:] {
			c.at = c.at.Add(d)
		}
	}
}

// Next returns when Tick is to be called at the latest; zero means that nothing is waited for.
func (p *Peer) Next() time.Time {
	var next time.Time
	consider := func(t time.Time) {
		if !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	if p.setup != nil {
		consider(p.setup.at)
	}
	if p.live == nil {
		return next
	}
	switch {
	case p.current && p.setup == nil:
		consider(p.calls[0].at)
	case !p.current && p.setup == nil:
		consider(p.kept.Add(p.cfg.KeepAlive))
		if p.line == nil {
			consider(p.used.Add(p.cfg.Idle))
		}
	}
	if p.line != nil {
		consider(p.line.at)
	}
	return next
}

// Tick lets the time go on.
func (p *Peer) Tick(now time.Time) {
	if s := p.setup; s != nil && !now.Before(s.at) {
		p.tickSetup(now, s)
	}
	if p.live != nil && p.setup == nil {
		switch {
		case p.current && !now.Before(p.calls[0].at):
			p.tickCall(now)
		case !p.current && p.line == nil && !p.wantSerial && !now.Before(p.used.Add(p.cfg.Idle)):
			p.end(&Error{Cause: Closed}, true)
		case !p.current && !now.Before(p.kept.Add(p.cfg.KeepAlive)):
			p.keepAlive()
		}
	}
	p.advance(now)
}

func (p *Peer) tickSetup(now time.Time, s *setup) {
	silent := &Error{Cause: NoAnswer, Step: s.step.String()}
	switch {
	case s.packet == nil: // the pause before a fresh start is over
		s.open()
		p.sendSetup(now)
	case s.step == stepActivate && s.sends == len(p.cfg.Waits): // it has answered the challenge: BMCs drop a proof that is wrong
		p.end(&Error{Cause: WrongPassword, Step: s.step.String()}, false)
	case s.step == stepChallenge && s.sends >= sendsUnproved: // it may have learned IPMI 2.0 since
		p.cfg.Known, p.suite = p.cfg.Suite, p.cfg.Suite
		p.restart(now, silent, 0)
	case (s.step == stepRAKP1 || s.step == stepRAKP3) && s.sends >= sendsBeforeRestart:
		p.restart(now, silent, 0)
	case s.sends == len(p.cfg.Waits):
		p.end(silent, false)
	default:
		p.sendSetup(now)
	}
}

// tickCall repeats the call on its way, doubts the session when it was repeated enough, and in the end gives up.
func (p *Peer) tickCall(now time.Time) {
	c := p.calls[0]
	switch {
	case c.request.Once && c.sends > 0:
		p.finish(now, nil, &Error{Cause: AnswerLost, Step: c.name})
	case c.quiet && (c.sends == c.most || c.sends >= sendsUnproved && len(p.calls) > 1):
		p.lose(&Error{Cause: NoAnswer, Step: c.name})
	case c.sends < c.most:
		p.sendCall(now)
	case c.reopened:
		p.finish(now, nil, &Error{Cause: NoAnswer, Step: c.name})
	default:
		c.reopened = true
		p.begin(now)
	}
}

func (p *Peer) keepAlive() {
	if p.line != nil && !p.ownerUnknown {
		p.askOwner("keep-alive")
		return
	}
	p.insert(&call{request: GetDeviceID(), name: "keep-alive", quiet: true, done: func(time.Time, []byte, *Error) {}})
}
