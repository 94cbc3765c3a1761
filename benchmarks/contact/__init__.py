"""First contact with a GPU: questions, each answered in a process of its own, written down at once.

`questions.py` lists them, `asking.py` asks one, `results.py` keeps the file. `harness.py`, `pace.py` and `sensors.py`
answer about the harness, `engines.py` and `trtexec.py` about engines. `subject.py` says what the harness runs: an
engine of a real network, or where there is no TensorRT, PyTorch's kernels (`torch_session.py`).

Python 3.8 reads all of it; of trtpoets only core, device, judge and onboard are imported, which a bundle has too.
"""
