"""The published weights of a backbone, as the type that a test needs."""

from trtpoets.train.backbones import Backbone, KerasApplication


def keras_source(backbone: Backbone) -> KerasApplication:
    """The network of keras.applications that `backbone` is; fails if its weights are in the package."""
    assert isinstance(backbone.source, KerasApplication), backbone.name
    return backbone.source
