"""Measurements as a page, Markdown and terminal tables. Imports core and judge."""
