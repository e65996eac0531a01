"""Where in a stamp the network looks: gradients of the score of its answer (Simonyan et al. 2014, arXiv:1312.6034)."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from spacewarps.model.ensemble import Ensemble, Network, oriented
from spacewarps.survey.dataset import Space_Galaxi


def saliency(
    network: Network, data: Space_Galaxi, indices: Sequence[int], answers: Sequence[int]
) -> NDArray[np.float32]:
    """Return how much the score of an answer changes with each pixel, ``[N, H, W]``.

    It is the gradient of the class's logit, its size, the largest over the channels. Of an ensemble it is the mean over
    members and orientations. Pixels are taken as the network sees them, stretched, as in the survey's units a faint one
    would seem to decide everything.

    Args:
        network: is asked.
        data: holds the samples.
        indices: which of them.
        answers: the number of the class that is the answer, for each.
    """
    members = network.networks if isinstance(network, Ensemble) else [network]
    orientations = network.orientations if isinstance(network, Ensemble) else 1
    height, width = data.stamp_shape[1:]
    if not len(indices):
        return np.empty((0, height, width), dtype=np.float32)
    network.eval()
    device = next(network.parameters()).device
    images, features = (part.to(device) for part in data.seen(list(indices)))
    chosen = torch.as_tensor(list(answers), device=device)[:, None]
    total = torch.zeros(images.shape, device=device)
    for member in members:
        with torch.no_grad():
            stretched = member.maps(images, 0)
        stretched.requires_grad_()
        for turned in oriented(stretched, orientations):
            logits = member.finish(turned.contiguous(memory_format=torch.channels_last), features, 0)
            # A sample's logit depends on no other sample, so the gradient of the sum is that of each.
            (gradient,) = torch.autograd.grad(logits.gather(1, chosen).sum(), stretched)
            total += gradient
    found: NDArray[np.float32] = total.abs().amax(dim=1).cpu().numpy()
    return found
