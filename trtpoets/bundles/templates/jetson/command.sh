#!/bin/sh
# @about
# This script only selects a Python. runtime/start.py checks the runtime and starts it; the commands are implemented in
# runtime/trtpoets/onboard/.
set -eu
here=$(dirname -- "$(readlink -f -- "$0")")
python=$here/built/venv/bin/python
[ -x "$python" ] || python=python3
# Python runs compiled files without checking their source, so none are written, here or in built/. Those of numpy and of
# Python's own library are used.
export PYTHONDONTWRITEBYTECODE=1
unset PYTHONPYCACHEPREFIX
exec "$python" "$here/runtime/start.py" @command"$@@"
