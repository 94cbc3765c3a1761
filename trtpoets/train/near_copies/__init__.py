"""Finds near-copies among photos, so that each group of them stays in one split."""
