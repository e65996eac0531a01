"""What the trunk grows by."""

from torch import Tensor, nn


class ConvBlock(nn.Module):
    """Conv2d, BatchNorm2d, ReLU, Dropout2d, MaxPool2d: half the size, ``k`` channels.

    Args:
        channels: the channels that come in.
        k: the channels that go out.
        dropout: the share of the channels that is dropped in training.
    """

    kind = "conv"

    def __init__(self, channels: int, k: int, dropout: float) -> None:
        super().__init__()
        # BatchNorm subtracts the mean, and with it any bias.
        self.conv = nn.Conv2d(channels, k, kernel_size=3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(k)
        self.relu = nn.ReLU()
        self.dropout = nn.Dropout2d(dropout)
        self.pool = nn.MaxPool2d(2)

    def forward(self, maps: Tensor) -> Tensor:
        """Return ``[B, k, H // 2, W // 2]`` for ``[B, channels, H, W]``."""
        # A maximum commutes with ReLU and with the positive factor that dropout gives a whole channel. So pooling comes
        # first, to the same bits, and what follows has a quarter of the pixels to go through. So are the gradients, but
        # where that factor would round two pixels of a window to the same number, as happens in bf16: here the larger
        # one gets the gradient, not the first.
        pooled = self.pool(self.norm(self.conv(maps)))
        result: Tensor = self.dropout(self.relu(pooled))
        return result
