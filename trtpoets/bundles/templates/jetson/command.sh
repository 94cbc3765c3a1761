#!/bin/sh
# @about
# This script only finds Python. runtime/start.py checks and starts the runtime; the commands are in
# runtime/trtpoets/onboard/.
set -eu
here=$(dirname -- "$(readlink -f -- "$0")")
python=$here/built/venv/bin/python
[ -x "$python" ] || python=python3
# Python runs compiled files without reading their source, so none are written here or in built/. Those of numpy and
# of the standard library are used.
export PYTHONDONTWRITEBYTECODE=1
unset PYTHONPYCACHEPREFIX
exec "$python" "$here/runtime/start.py" @command"$@@"
