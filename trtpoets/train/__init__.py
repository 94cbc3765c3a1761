"""Photos to a classifier, in TensorFlow. Imports core."""
