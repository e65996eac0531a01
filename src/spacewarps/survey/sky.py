"""Where the sky of a stamp is."""

import numpy as np
from numpy.typing import NDArray


def rim(height: int, width: int) -> NDArray[np.bool_]:
    """Say of each pixel whether it is within a tenth of the shorter side of the stamp's edge, where the sky is."""
    wide = max(1, min(height, width) // 10)
    at_rim = np.ones((height, width), dtype=np.bool_)
    at_rim[wide : height - wide, wide : width - wide] = False
    return at_rim
