"""Tests trtpoets on a GPU with a list of questions. Each runs in its own process, and its answer is written at once.

`questions.py` lists the questions, `question_process.py` runs one, `results.py` writes the result file. `harness.py`,
`pace.py` and `sensors.py` answer questions about the runtime, `engines.py` and `trtexec.py` about engines. `subject.py`
selects what the runtime executes: an engine of a real network or, without TensorRT, PyTorch kernels
(`torch_session.py`).

All modules support Python 3.8, and import only core, device, judge and onboard of trtpoets, which bundles contain.
"""
