// Package board is what all BMCs of the lab share, whether there is a machine behind them or not: the system event log,
// sensors with their records, and the BMC's half of serial over LAN. Bytes and states only: no socket, no goroutine.
package board
