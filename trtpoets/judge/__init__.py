"""Scores to verdicts. Imports core and device."""
