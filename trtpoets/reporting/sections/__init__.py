"""The sections of a report: rows, sentences and plots, without HTML."""
