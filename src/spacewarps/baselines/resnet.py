"""A residual network that was made for photographs."""

import torch
from torch import Tensor, nn
from torchvision.models import resnet18

from spacewarps.model.network import Inputs, ProgressiveModel
from spacewarps.model.settings import Configuration


class FixedResNet(ProgressiveModel):
    """torchvision's ResNet-18, fitted to stamps: they are small, so its first convolution keeps their size.

    Its features meet the same normalisers, projector and classifier as those of a network that grew.

    Args:
        inputs: what it sees and tells apart.
        configuration: what does not grow.
    """

    def __init__(self, inputs: Inputs, configuration: Configuration | None = None) -> None:
        super().__init__(
            inputs.stamp_shape, inputs.features, inputs.classes, configuration, mask_channel=inputs.mask_channel
        )
        self.resnet = resnet18(num_classes=self.configuration.embedding)
        self.resnet.conv1 = nn.Conv2d(inputs.stamp_shape[0], 64, 3, padding=1, bias=False)
        del self.head.project

    def finish(self, maps: Tensor, features: Tensor | None, depth: int) -> Tensor:  # noqa: ARG002
        """Return logits."""
        image = torch.relu(self.resnet(maps))
        if self.inputs.features:
            assert features is not None
            image = torch.cat([image, self.projector(self.feature_normaliser(features))], dim=1)
        logits: Tensor = self.head.classify(image)
        return logits
