#!/bin/sh
# @about
# This only finds Python; runtime/start.py checks the runtime and starts it, and what is done is in
# runtime/trtpoets/onboard/.
set -eu
here=$(dirname -- "$(readlink -f -- "$0")")
python=$here/built/venv/bin/python
[ -x "$python" ] || python=python3
# Python runs compiled files without a look at their source: none are written, here or in built/, and those that
# numpy and Python's own library came with are used.
export PYTHONDONTWRITEBYTECODE=1
unset PYTHONPYCACHEPREFIX
exec "$python" "$here/runtime/start.py" @command"$@@"
