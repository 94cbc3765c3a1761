"""Reads, runs and wraps classifiers in TensorFlow's formats: Keras files, SavedModels, frozen graphs."""
