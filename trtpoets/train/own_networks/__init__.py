"""Networks that Keras does not have, or has with other padding: layers, without weights and without the last layer."""
