"""The stamps that a network takes."""

from spacewarps.prediction.classifier import Classifier
from spacewarps.survey.images import StampShape


def stamps_of(classifier: Classifier) -> StampShape:
    """Return the shape and the pixel type of the stamps that ``classifier`` learned from, as they were delivered."""
    inputs = classifier.network.inputs
    _, height, width = inputs.stamp_shape
    return StampShape(inputs.image_channels, height, width, classifier.reference.pixels)
