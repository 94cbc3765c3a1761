#!/bin/sh
# @about
# This only finds Python and the runtime; what is done is in runtime/trtpoets/onboard/.
set -eu
here=$(dirname -- "$(readlink -f -- "$0")")
python=$here/built/venv/bin/python
[ -x "$python" ] || python=python3
export PYTHONPATH="$here/runtime${PYTHONPATH:+:$PYTHONPATH}"  # for processes that it starts
# Python's own caches belong to this runtime alone, and lie where the manifest does not look.
export PYTHONPYCACHEPREFIX="$here/built/@caches"
exec "$python" "$here/runtime/start.py" @command"$@@"
