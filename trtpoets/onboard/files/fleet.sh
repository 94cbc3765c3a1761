#!/bin/sh
# Updates devices one after the other, and stops at the first that fails: the others keep what they run.
#
#   fleet.sh [-k] ARCHIVE ROOT HOST... [-- OPTIONS OF ./trtpoets update]
#   fleet.sh flowers-jetson.tar.zst /opt/flowers line1 line2 -- --restart 'sudo systemctl restart flowers'
#
# ARCHIVE is what `trtpoets bundle NAME --for jetson` wrote; ROOT is a folder on each device that the ssh user may write.
# On each device the bundle is unpacked beside what runs, built, self-tested, switched to in one step, and undone if its
# health fails (./trtpoets update --help). A device is set up once by hand: ./install --venv ROOT/venv
# -k goes on after a device that failed. Exit code: 0 if all were updated, else 1.
set -eu

go_on=no
[ "${1:-}" = -k ] && { go_on=yes; shift; }
[ $# -ge 3 ] || { sed -n '2,/^set /s/^# \{0,1\}//p' "$0" | sed '$d' >&2; exit 2; }
archive=$1 root=$2
shift 2
[ -f "$archive" ] || { printf 'Error: there is no archive %s\n' "$archive" >&2; exit 1; }

# Words for another shell: each in single quotes, and quotes inside them closed, escaped and opened again.
quoted() { printf "'%s'" "$(printf %s "$1" | sed "s/'/'\\\\''/g")"; }
# The hosts stay in "$@", one word each; what follows -- becomes options.
options= after=no
for word; do
    shift
    if [ $after = yes ]; then
        options="$options $(quoted "$word")"
    elif [ "$word" = -- ]; then
        after=yes
    else
        set -- "$@" "$word"
    fi
done
[ $# -gt 0 ] || { echo "Error: no host is named" >&2; exit 2; }
root=$(quoted "$root")

# What runs on the device. The bundle's own manifest says whether it arrived whole.
there="set -eu
mkdir -p -- $root
new=\$(mktemp -d)
trap 'rm -rf \"\$new\"' EXIT INT TERM
zstd -dcq | tar -xm -C \"\$new\" --no-same-owner
set -- \"\$new\"/*
bundle=\$1
if [ -e $root/venv ]; then mkdir -p \"\$bundle/built\"; ln -s -- $root/venv \"\$bundle/built/venv\"; fi
\"\$bundle/trtpoets\" update --root $root$options"

failed=
for host; do
    printf '== %s\n' "$host" >&2
    if ssh -o BatchMode=yes -o ServerAliveInterval=15 -- "$host" "$there" < "$archive"; then
        printf '== %s: updated\n' "$host" >&2
    else
        printf '== %s: FAILED, and keeps what it ran\n' "$host" >&2
        failed="$failed $host"
        [ $go_on = yes ] || break
    fi
done
[ -z "$failed" ] || { printf 'Error: not updated:%s\n' "$failed" >&2; exit 1; }
