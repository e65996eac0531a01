"""Which classifiers the network is compared with."""

from spacewarps.settings import settings


@settings
class BaselineSettings:
    """The classifiers that learn from the same samples, each to be switched on or off.

    Those with a network other than ``features_network`` each take as long as the final training, or longer.

    Args:
        features_alone: gradient boosting on the features.
        features_and_shapes: gradient boosting on the features and on measurements of the stamps.
        features_network: a network on the features, without a trunk.
        found_without_features: the architecture that was found, on stamps alone.
        found_anew: the architecture that was found, from other random numbers.
        vgg: as many blocks as were found, of 32, 64, 96, 128 and more channels.
        resnet: ResNet-18 (He et al. 2016), fitted to small stamps.

    Raises:
        SettingsError: an argument is neither true nor false.
    """

    features_alone: bool = True
    features_and_shapes: bool = True
    features_network: bool = True
    found_without_features: bool = False
    found_anew: bool = False
    vgg: bool = False
    resnet: bool = False
