"""Verdicts and artefacts to what people get. Imports core and judge."""
