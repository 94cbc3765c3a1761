"""The replies of a child process."""

from __future__ import annotations

import signal
import sys
import threading

import pytest

from trtpoets.core.child_process import Child


def test_a_late_reply_is_not_used_for_the_next_request() -> None:
    code = "import json, sys, time\nfor line in sys.stdin:\n time.sleep(.3); print(line.strip(), flush=True)"
    with Child((sys.executable, "-c", code)) as child:
        threading.Timer(0.1, signal.raise_signal, [signal.SIGINT]).start()
        with pytest.raises(KeyboardInterrupt):
            child.ask({"first": 1}, 5)
        assert child.ask({"second": 2}, 5) == {"second": 2}
