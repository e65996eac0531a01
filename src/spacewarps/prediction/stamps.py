"""The stamps that a network takes."""

from spacewarps.prediction.classifier import Classifier
from spacewarps.survey.images import StampShape


def stamps_of(classifier: Classifier) -> StampShape:
    """Return the shape and the pixel type of the stamps that ``classifier`` learned from."""
    channels, height, width = classifier.network.inputs.stamp_shape
    return StampShape(channels, height, width, classifier.reference.pixels)
