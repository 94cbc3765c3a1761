"""Options that several commands share as a group: a parameter of a command may be such a group."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Annotated, Any, TypeVar, get_type_hints

import typer

from trtpoets.cli import options as opt
from trtpoets.core.training import HeadConfig
from trtpoets.core.types import Precision, Resize

_Function = TypeVar("_Function", bound=Callable[..., Any])

_RACE = "Options for --backbone auto"


@dataclass(frozen=True)
class NetworkOptions:
    """How the frozen backbone is run."""

    resize: opt.ResizeOption = Resize.STRETCH
    device: opt.DeviceOption = "auto"
    workers: opt.WorkersOption = ""


@dataclass(frozen=True)
class TrainingNetworkOptions(NetworkOptions):
    """How the frozen backbone is run, and who makes the trials of fine-tuning."""

    workers: opt.TrainingWorkersOption = ""


@dataclass(frozen=True)
class PhotoOptions:
    """How the photos are read and divided."""

    validation_percent: opt.ValidationPercent = 10
    test_percent: opt.TestPercent = 10
    strict: opt.Strict = False
    labels: opt.Labels = None
    class_folders: opt.ClassFolders = False


@dataclass(frozen=True)
class HeadOptions:
    """How the head is trained."""

    steps: opt.Steps = HeadConfig.steps
    batch_size: opt.BatchSize = HeadConfig.batch_size
    learning_rate: opt.LearningRate = None
    optimizer: opt.OptimizerOption = None
    l2: opt.L2 = None
    label_smoothing: opt.LabelSmoothing = None
    class_weights: opt.ClassWeights = None
    early_stop: opt.EarlyStop = None


@dataclass(frozen=True)
class RaceOptions:
    """Which networks are compared, and for what they are used."""

    candidates: Annotated[
        list[str] | None,
        typer.Option(
            "--candidate",
            metavar="NAME[=FILE]",
            help="Network in the race, with a weights file or without (repeatable); default: all that need no "
            "download.",
            rich_help_panel=_RACE,
        ),
    ] = None
    max_ms: Annotated[
        float | None,
        typer.Option(help="Milliseconds that a network may take for one photo.", rich_help_panel=_RACE),
    ] = None
    board: Annotated[
        str | None,
        typer.Option(
            "--board",
            help="Jetson module, or t4, for which times are estimated; default: measured on this machine's CPU.",
            rich_help_panel=_RACE,
        ),
    ] = None
    precision: Annotated[
        Precision | None,
        typer.Option(
            "--precision",
            help="Precision that will be deployed; default: the fastest of the device.",
            rich_help_panel=_RACE,
        ),
    ] = None


def with_groups(command: _Function) -> _Function:
    """Return the command with the fields of its groups as parameters of their own, at the place of each group.

    A group is a parameter that is annotated with a dataclass. The defaults are those of the fields.
    """
    hints = get_type_hints(command, include_extras=True)
    parameters, groups = list[inspect.Parameter](), dict[str, type]()
    for name, parameter in inspect.signature(command).parameters.items():
        kind = hints[name]
        if not dataclasses.is_dataclass(kind):
            parameters.append(parameter.replace(annotation=kind))
            continue
        assert isinstance(kind, type)
        groups[name] = kind
        own = get_type_hints(kind, include_extras=True)
        parameters += [
            inspect.Parameter(
                field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=own[field.name]
            )
            for field in dataclasses.fields(kind)
        ]
    signature = inspect.Signature(
        [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters],
        return_annotation=hints.get("return", None),
    )

    @wraps(command)
    def with_own_parameters(**arguments: Any) -> Any:
        given = {
            group: kind(**{field.name: arguments.pop(field.name) for field in dataclasses.fields(kind)})
            for group, kind in groups.items()
        }
        return command(**arguments, **given)

    added: Any = with_own_parameters
    added.__signature__ = signature
    added.__annotations__ = {parameter.name: parameter.annotation for parameter in signature.parameters.values()}
    result: _Function = added
    return result
