// Package ipmi speaks IPMI 2.0 over LAN as step machines, and 1.5 with BMCs that have nothing else: a packet or the time goes in, packets and events come out.
//
// A [Peer] is our side of the talk with one BMC. It opens a session when there is something to say, repeats what was
// not answered, keeps the session alive, notices that the BMC has forgotten it and opens another one, and carries the
// serial line beside the commands:
//
//	caller             Peer                                        BMC
//	 Do(request) ─────▶ Open Session (suite 17, else 3) ─────────▶
//	                    RAKP 1 ◀─▶ 2, 3 ◀─▶ 4 (who are you)  ◀────▶
//	                    Set Session Privilege ◀────────────────────▶
//	 ◀── Answered ───── request ◀──────────────────────────────────▶
//	 OpenSerial ──────▶ Activate Payload ◀─────────────────────────▶
//	 ◀── SerialData ─── serial packet ◀── (acknowledged at once) ───
//
// What a BMC tells of its machine is read by codecs ([Repository], [LogEvent], [FRU], …) and by procedures of several requests
// ([ReadRepository], [ReadLog], [ReadFRU], …) that are written over a function that asks, [Ask]: so they run over a peer in
// simulated time as well as over sockets.
//
// A peer never opens a socket, never looks at a clock, starts no goroutine and keeps no packet that it was given; random
// numbers come from [Config]. So thousands of peers run over one socket and one timer, and tests run whole
// conversations over a network that loses, repeats and reorders packets, from a seed.
//
// Section numbers are those of the IPMI specification v2.0 revision 1.1. Of its algorithms this room knows cipher
// suites 3 (RAKP-HMAC-SHA1, HMAC-SHA1-96, AES-CBC-128) and 17 (RAKP-HMAC-SHA256, HMAC-SHA256-128, AES-CBC-128), the
// two that are both in use and fit to be used. Bytes of one packet inside a session (§13.6):
//
//	06 00 ff 07 │ 06 tt ssssssss nnnnnnnn llll │ iv(16) aes(payload, pad) │ ff… pad 07 │ hmac(12 or 16)
//	RMCP        │ payload type, session, seq.  │                          │ trailer    │ of all after RMCP
//
// A session of IPMI 1.5 is proved by MD5 and not encrypted; see [IPMI15].
package ipmi
