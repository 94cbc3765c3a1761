"""Trains a classifier on photos, with TensorFlow. Imports core only."""
