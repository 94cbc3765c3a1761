"""Finds the labelled photos of a folder: class folders, split folders and label files."""
