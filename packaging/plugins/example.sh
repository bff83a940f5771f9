#!/bin/sh
# The smallest BMC plugin of muster that is of use: power and boot device, in POSIX shell (docs/plugins.md has the contract).
#
# Its machine is a file in a directory beside this program, NODE, that holds "on" or "off", and NODE.boot. To drive hardware of yours, change what stands
# below "the machine". Nothing here reads a password: one with a quote in it needs a language that reads JSON, see example.py.
set -u

# field NAME: the value of a field of the request. muster writes a request in one line, without blanks between.
field() {
	case $line in
	*"\"$1\":\""*) rest=${line#*"\"$1\":\""} && printf '%s' "${rest%%\"*}" ;;
	*"\"$1\":"*) rest=${line#*"\"$1\":"} && printf '%s' "${rest%%[,\}]*}" ;;
	esac
}

answer() { printf '{"id":%s,"answer":%s}\n' "$id" "$1"; }
done_() { printf '{"id":%s}\n' "$id"; }
fail() { printf '{"id":%s,"error":{"kind":"%s","why":"%s","do":"%s"}}\n' "$id" "$1" "$2" "$3"; }

# the machine

power() {
	state=off
	[ -r "$machine" ] && read -r state <"$machine"
	printf '%s' "$state"
}

set_power() { # set_power ACTION
	case $1 in
	on | off) echo "$1" >"$machine" ;;
	softoff) echo off >"$machine" ;;
	cycle | reset) [ "$(power)" = on ] ;;
	*) return 2 ;;
	esac
}

boot_device() {
	boot='{"device":"default"}'
	[ -r "$machine.boot" ] && read -r boot <"$machine.boot"
	printf '%s' "$boot"
}

# the talk

echo '{"hello":"bmc","versions":[1],"name":"example.sh","version":"1","can":["power","setPower","bootDevice","setBootDevice","info"]}'
while IFS= read -r line; do
	id=$(field id)
	case $(field do) in
	open)
		machine=$0.d/$(field node)
		mkdir -p "$0.d" 2>/dev/null && done_ || fail failed "there is no directory $0.d" 'Let the manager write it'
		;;
	power) answer "\"$(power)\"" ;;
	setPower)
		set_power "$(field action)" 2>/dev/null
		case $? in
		0) done_ ;;
		2) fail unsupported 'a file knows no such action' '' ;;
		*) fail failed 'that cannot be done in the present state, or the file cannot be written' 'Power it on first' ;;
		esac
		;;
	bootDevice) answer "$(boot_device)" ;;
	setBootDevice)
		persist=$(field persist)
		echo "{\"device\":\"$(field device)\",\"persist\":${persist:-false},\"firmware\":\"$(field firmware)\"}" >"$machine.boot" 2>/dev/null &&
			done_ || fail failed 'the file cannot be written' ''
		;;
	info) answer '{"protocol":"example.sh","model":"file"}' ;;
	*) fail unsupported 'that is not known here' '' ;;
	esac
done
