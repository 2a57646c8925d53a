# SPDX-License-Identifier: BSD-2-Clause
# Sourced first by every shell test:
#
#	source "$(dirname "$0")/functions.sh"
#
# Gives $t, a directory of the test's own that is gone afterwards; requires;
# cleanup_fn; start_smd and its kin. The programs of the build tree are first in
# PATH: tests run under ../run, and a test started by hand runs itself there.
if [ -z "${SMD_SRC:-}" ]; then
	exec "$(dirname "${BASH_SOURCE[0]}")/../run" bash "$0" "$@"
fi
set -euo pipefail

# make check: where daemons record their calls, for every-method-is-called.py.
if [ -n "${SMD_CALLS:-}" ] && [ -z "${SMD_CALLS_HERE:-}" ]; then
	export SMD_CALLS_HERE=$SMD_CALLS/${0##*/}
	rm -rf "$SMD_CALLS_HERE"
	mkdir -p "$SMD_CALLS_HERE"
fi

t=$(mktemp -d "${TMPDIR:-/tmp}/smd-test.XXXXXX")
cleanup_hooks=()
smd_pid=

# cleanup_fn COMMAND [ARGUMENT...]: run it when the test ends, however it ends;
# the last one registered first.
cleanup_fn()
{
	cleanup_hooks=("$(printf '%q ' "$@")" "${cleanup_hooks[@]}")
}

cleanup_run()
{
	local status=$? hook

	trap - EXIT INT TERM
	set +e
	for hook in "${cleanup_hooks[@]}"; do
		eval "$hook"
	done
	[ -n "$smd_pid" ] && kill_smd
	[ $status -ne 0 ] || expect_reasons || status=1
	if [ $status -ne 0 ] && [ $status -ne 77 ] && [ -s "$t/smd.log" ]; then
		echo "--- the daemon's log, its end ---"
		tail -n 60 "$t/smd.log"
	fi
	rm -rf "$t"
	exit $status
}
trap cleanup_run EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# No task stood still for 2 s without saying what it waits for, as smdtest.py's
# expect_reasons has it: the daemon logs those that did.
expect_reasons()
{
	[ -s "$t/smd.log" ] || return 0
	awk -v limit_ms=10000 '
		match($0, /stands still for [0-9]+ ms, and its work says /) {
			split(substr($0, RSTART, RLENGTH), words, " ")
			says = substr($0, RSTART + RLENGTH)
			if (says == "nothing" || words[4] > limit_ms) {
				print
				silent = 1
			}
		}
		END { exit silent }' "$t/smd.log"
}

# requires PROGRAM...: skip the test where one is missing.
requires()
{
	local program

	for program; do
		if ! command -v "$program" >/dev/null; then
			echo "skipped: $program is missing"
			exit 77
		fi
	done
}

fail()
{
	echo "FAILED: $*" >&2
	exit 1
}

# expect_fail COMMAND...: it must fail; its output is in $output.
# shellcheck disable=SC2034
expect_fail()
{
	if output=$("$@" 2>&1); then
		fail "this should have failed: $*: $output"
	fi
}

# expect_eq ACTUAL EXPECTED WHAT
expect_eq()
{
	[ "$1" = "$2" ] || fail "$3: got '$1', wanted '$2'"
}

free_port()
{
	python3 -c 'import socket
s = socket.socket()
s.bind(("127.0.0.1", 0))
print(s.getsockname()[1])'
}

smd_answers()
{
	python3 - "$SMD_SOCKET" 2>/dev/null <<'END'
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.settimeout(5)
s.connect(sys.argv[1])
body = b"<methodCall><methodName>system.listMethods</methodName><params/></methodCall>"
s.sendall(b"POST / HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
sys.exit(not s.recv(12).endswith(b" 200"))
END
}

# start_smd [--tcp] [ARGUMENT...]: a private daemon with its state in $t/state,
# its log in $t/smd.log, on the socket $SMD_SOCKET (smctl's default) and with --tcp
# also on 127.0.0.1:$SMD_PORT. Returns when it answers.
start_smd()
{
	smd_args=()
	if [ "${1:-}" = --tcp ]; then
		shift
		SMD_PORT=$(free_port)
		export SMD_PORT
		smd_args+=(--listen "127.0.0.1:$SMD_PORT")
	fi
	smd_args+=("$@")
	export SMD_SOCKET=$t/smd.sock
	mkdir -p "$t/state"
	[ -e "$t/smd.conf" ] || : >"$t/smd.conf"
	[ -z "${SMD_CALLS_HERE:-}" ] || printf '\nrecord_calls = %s\n' "$SMD_CALLS_HERE/smd" >>"$t/smd.conf"
	smd_launch
}

smd_launch()
{
	local i

	# shellcheck disable=SC2086 # SMD_VALGRIND is words
	${SMD_VALGRIND:-} smd --foreground --config "$t/smd.conf" --state-dir "$t/state" --socket "$SMD_SOCKET" \
		--plugin-dir "$SMD_PLUGIN_PATH" "${smd_args[@]}" >>"$t/smd.log" 2>&1 &
	smd_pid=$!
	for ((i = 0; i < 600; i++)); do
		kill -0 "$smd_pid" 2>/dev/null || { smd_pid=; fail "smd ended at its start"; }
		[ -S "$SMD_SOCKET" ] && smd_answers && return
		sleep 0.1
	done
	fail "smd does not answer after a minute"
}

# stop_smd: SIGTERM; it must end by itself, with success.
stop_smd()
{
	local pid=$smd_pid

	smd_pid=
	kill -TERM "$pid"
	wait "$pid" || fail "smd ended with status $? on SIGTERM"
}

# kill_smd: SIGKILL, as a crash would.
kill_smd()
{
	kill -KILL "$smd_pid" 2>/dev/null || true
	wait "$smd_pid" 2>/dev/null || true
	smd_pid=
}

# restart_smd: stop it if it runs, and start it with the arguments it had.
restart_smd()
{
	[ -z "$smd_pid" ] || stop_smd
	smd_launch
}

# make_sr NAME [KEY=VALUE...]: a file SR in $t/NAME, attached; prints its uuid.
# More pairs join device-config: preferred-image-formats=qcow2,vhd.
make_sr()
{
	local name=$1 pair pairs=()

	shift
	mkdir -p "$t/$name"
	for pair; do
		pairs+=("device-config:$pair")
	done
	smctl sr-create "name-label=$name" type=file "device-config:location=$t/$name" "${pairs[@]}"
}

# sha256_of FILE FORMAT: of the whole disk inside, as the guest sees it.
sha256_of()
{
	if [ "$2" = raw ]; then
		sha256sum <"$1"
	else
		qemu-img convert -f "${2/vhd/vpc}" -O raw "$1" "$t/sha256.raw"
		sha256sum <"$t/sha256.raw"
		rm "$t/sha256.raw"
	fi | cut -d' ' -f1
}
