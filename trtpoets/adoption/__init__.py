"""Reads classifier files of other programs, determines how they expect their photos, and wraps them for trtpoets."""
