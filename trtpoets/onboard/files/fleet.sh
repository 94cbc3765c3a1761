#!/bin/sh
# Updates devices one after the other, and stops at the first that fails; the others keep their running bundle.
#
#   fleet.sh [-k] [-s SHA256] ARCHIVE ROOT HOST... [-- OPTIONS OF ./trtpoets update]
#   fleet.sh flowers-jetson.tar /opt/flowers line1 line2 -- --restart 'sudo systemctl restart flowers'
#
# ARCHIVE was written by `trtpoets bundle NAME --for jetson`; ROOT is a folder on each device that the ssh user can write.
# On each device the bundle is unpacked beside the running one, built, self-tested and switched to in one step, and switched
# back if the health check fails (./trtpoets update --help). Set up each device once by hand: ./install --venv ROOT/venv
# A device with public keys (./install --root ROOT --signers KEY.pub) accepts only what one of them signed: nothing of the
# archive is run there before ssh-keygen has verified its manifest, and check.py its files.
# -s refuses an archive whose sha256 differs from the one that `trtpoets bundle` printed. -k continues after a failed device.
# Exit code: 0 if all were updated, else 1.
set -euf

go_on=no sha256=
while :; do
    case "${1:-}" in
    -k) go_on=yes; shift ;;
    -s) sha256=${2:-}; [ -n "$sha256" ] || { echo "Error: -s needs the archive's sha256" >&2; exit 2; }; shift 2 ;;
    *) break ;;
    esac
done
[ $# -ge 3 ] || { sed -n '2,/^set /s/^# \{0,1\}//p' "$0" | sed '$d' >&2; exit 2; }
archive=$1 root=$2
shift 2
[ -f "$archive" ] || { printf 'Error: there is no archive %s\n' "$archive" >&2; exit 1; }
if [ -n "$sha256" ]; then
    sha256=$(printf %s "$sha256" | tr A-F a-f)
    found=$(sha256sum < "$archive" | cut -d ' ' -f 1)
    [ "$found" = "$sha256" ] || {
        printf 'Error: %s has the sha256 %s, and %s was expected\n' "$archive" "$found" "$sha256" >&2
        exit 1
    }
fi

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
check=$(quoted "$(cat "$(dirname -- "$0")/check.py")")

# What runs on the device. Without a key there, the bundle's own programs say whether it arrived whole.
there="set -eu
mkdir -p -- $root
new=\$(mktemp -d)
trap 'rm -rf \"\$new\"' EXIT INT TERM
tar -xm -C \"\$new\" --no-same-owner
set -- \"\$new\"/*
bundle=\$1
if [ -e $root/allowed_signers ] || [ -L $root/allowed_signers ]; then
    [ -f \"\$bundle/manifest.json.sig\" ] || { echo 'Error: the bundle is not signed, and this device asks for it' >&2; exit 1; }
    ssh-keygen -Y verify -f $root/allowed_signers -I trtpoets -n trtpoets -s \"\$bundle/manifest.json.sig\" \\
        < \"\$bundle/manifest.json\" >&2
    python3 -I -c $check \"\$bundle\"
fi
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
