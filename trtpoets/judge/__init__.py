"""Judges runners by their scores and timings: accuracy, gate, benchmark. Imports core and device."""
