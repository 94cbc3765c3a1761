from __future__ import annotations

import pickle

from trtpoets.core import errors


def test_the_docstring_draws_every_error() -> None:
    kinds = [
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.TrtPoetsError)
    ]
    assert len(kinds) > 5
    for kind in kinds:
        assert kind.__name__ in (errors.__doc__ or ""), kind
        assert kind.exit_code == {errors.GateFailed: 3, errors.GateUndecided: 4, errors.Interrupted: 130}.get(kind, 1)


def test_an_error_comes_home_from_a_child_process_whole() -> None:
    error = pickle.loads(pickle.dumps(errors.BuildFailed("no kernel for Conv_3", hint="leave it in FP16")))
    assert type(error) is errors.BuildFailed
    assert (str(error), error.message, error.hint) == (
        "no kernel for Conv_3",
        "no kernel for Conv_3",
        "leave it in FP16",
    )
