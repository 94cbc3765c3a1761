"""Finds the files of tests that are not part of the repository: photos, classifiers and weights of others."""

from __future__ import annotations

from pathlib import Path

_PARENTS = Path(__file__).resolve().parents

SHARED = next((folder for parent in _PARENTS if (folder := parent / "shared").is_dir()), _PARENTS[2] / "shared")
"""The nearest folder `shared` in the repository or above it, so that all worktrees find it. It may not exist."""
