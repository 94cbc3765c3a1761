"""A report -> where its numbers come from: the machine, the versions, the weights, and the commands that lead here."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from trtpoets.ship.words import joined, many, shown

if TYPE_CHECKING:
    from collections.abc import Mapping


def conditions_from_report(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Machine, versions and provenance, line by line."""
    now = report["conditions"]
    gpus = [gpu["name"] for gpu in now.get("gpus") or []]
    threads = (report["benchmark"].get("config") or {}).get("threads")
    jetson = now.get("jetson")
    lines = [
        ("when", now.get("time")),
        ("processor", f"{now.get('cpu')}, {many(now.get('cores') or 0, 'usable core')}"),
        ("threads", None if threads is None else "all cores" if threads == 0 else threads),
        ("memory", f"{now['memory_mib']:,} MiB" if now.get("memory_mib") else None),
        ("load at the start", ", ".join(str(value) for value in now.get("load") or [])),
        ("frequency governor", now.get("governor")),
        ("GPU", joined(gpus) or (f"{jetson['model']}, L4T {jetson['l4t']}" if jetson else "none")),
        ("NVIDIA driver", now.get("nvidia_driver") or "none"),
        ("system", f"{now.get('os')}, Linux {now.get('kernel')}, Python {now.get('python')}"),
        ("packages", ", ".join(f"{name} {version}" for name, version in (now.get("versions") or {}).items())),
        ("weights", (report["spec"] or {}).get("weights_id")),
    ]
    return [(what, str(value)) for what, value in lines if value]


def artefacts_from_report(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What was benched, by name, with the hash of its content."""
    return [(shown(name), sha) for name, sha in (report["benchmark"].get("artefacts") or {}).items()]


def commands_from_report(report: Mapping[str, Any]) -> list[str]:
    """The command that was given, or else the ones that lead here."""
    if report["command"]:
        return [shown(report["command"])]
    name = shlex.quote(shown(report["name"]))
    if not report["name"]:
        return []
    if not report["training"]:
        return [f"trtpoets pretrained {report['backbone']} --name {name}", f"trtpoets report {name}"]
    folder = shlex.quote(shown((report["dataset"] or {}).get("folder") or "PHOTOS"))
    config = report["training"].get("config") or {}
    options = "".join(f" --{word} {config[word]}" for word in ("steps", "seed") if word in config)
    return [f"trtpoets run {folder} --name {name} --backbone {report['backbone']}{options}"]
