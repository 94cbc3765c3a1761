#!/bin/sh
# @about
# This only finds Python and the runtime; what is done is in runtime/trtpoets/onboard/.
set -eu
here=$(dirname -- "$(readlink -f -- "$0")")
python=$here/built/venv/bin/python
[ -x "$python" ] || python=python3
export PYTHONPATH="$here/runtime${PYTHONPATH:+:$PYTHONPATH}"  # for processes that it starts
# Python's own caches belong to this runtime alone, and lie where the manifest does not look. Where none can be
# written, those that Python and numpy came with serve better than none.
if mkdir -p "$here/built" 2>/dev/null && [ -w "$here/built" ]; then
    export PYTHONPYCACHEPREFIX="$here/built/@caches"
else
    export PYTHONDONTWRITEBYTECODE=1
fi
exec "$python" "$here/runtime/start.py" @command"$@@"
