"""Measures speed: one process for each runner, rounds, scenarios, energy, comparison of two benchmarks."""
