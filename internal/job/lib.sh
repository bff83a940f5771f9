# The library of muster's steps, for any POSIX shell:   . "$MUSTER_LIB"
# It changes a thing only when it is not so yet, and says what it changed.

# say TEXT…: a line of output.
say() { printf '%s\n' "$*"; }

# fail TEXT…: ends the step with the reason.
fail() { printf '%s\n' "$*" >&2; exit 1; }

# have PROGRAM: is it there?
have() { command -v "$1" >/dev/null 2>&1; }

# attr NAME [DEFAULT]: the value of the node's attribute, as muster get shows it.
attr() {
	_v=$(sed -n "s/^$(printf '%s' "$1" | sed 's/[.[\*^$/]/\\&/g')=//p" "$MUSTER_ATTRS" | head -n 1)
	if [ -n "$_v" ]; then printf '%s\n' "$_v"; else printf '%s\n' "${2-}"; fi
}

# put FILE [MODE]: gives a file the text of standard input, whole or not at all. True when that changed it.
put() {
	_t=$1.muster.$$
	mkdir -p "$(dirname "$1")" || return 2
	cat >"$_t" || { rm -f "$_t"; return 2; }
	if [ -f "$1" ] && cmp -s "$_t" "$1"; then
		rm -f "$_t"
		[ -z "${2-}" ] || chmod "$2" "$1"
		return 1
	fi
	chmod "${2-0644}" "$_t" && mv -f "$_t" "$1" || { rm -f "$_t"; return 2; }
	say "changed $1"
}

# line_in FILE LINE: the file has that line, once. True when that changed it.
line_in() {
	grep -qxF -- "$2" "$1" 2>/dev/null && return 1
	{ [ ! -f "$1" ] || cat "$1"; printf '%s\n' "$2"; } | put "$1"
}

# service NAME restart|reload|enable|…: asks systemd, when it runs here; in an image that is built, only enable and disable mean something.
service() {
	if [ -d /run/systemd/system ]; then
		systemctl "$2" "$1"
	elif [ "$2" = enable ] || [ "$2" = disable ]; then
		systemctl --root=/ "$2" "$1"
	fi
}
