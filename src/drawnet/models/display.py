"""Images as a model returns them: tensors, which notebooks show as pictures."""

import io
import math
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

SIDE = 112
"""Longest side of an image in screen pixels, unless its own is longer."""
GAP = 2
GREY = 88
"""Width of the lines between images, in screen pixels, and their grey level."""


class ImageTensor(Tensor):
    """Images (n, C, H, W) in [0, 1]: a tensor like any other, which a notebook shows as a grid.

    Slices of it are such tensors too; what is computed from it, and what is saved, is a plain tensor.
    """

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    def __getitem__(self, part: Any) -> Tensor:
        return super().__getitem__(part).as_subclass(ImageTensor)

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        copied: Tensor = self.as_subclass(Tensor).__deepcopy__(memo)
        return copied.as_subclass(ImageTensor)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.as_subclass(Tensor).__reduce_ex__(protocol)

    def _repr_png_(self) -> bytes | None:
        """Return a nearly square grid as PNG; None for no stack of images, which is shown as numbers."""
        if self.dim() != 4 or self.shape[1] not in (1, 3) or not self.numel() or self.isnan().any():
            return None
        (n, _, height, width), file = self.shape, io.BytesIO()
        scale, columns = max(1, SIDE // max(height, width)), math.ceil(math.sqrt(n))
        levels = self.as_subclass(Tensor).detach().cpu().float().clamp(0, 1).mul(255).round().byte()
        cells = levels.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
        cells = F.pad(cells, (0, GAP, 0, GAP), value=GREY)
        cells = F.pad(cells, (0, 0, 0, 0, 0, 0, 0, -n % columns), value=GREY)
        rows = cells.unflatten(0, (-1, columns)).permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1)
        pixels = rows[:-GAP, :-GAP].squeeze(2).contiguous().numpy()
        Image.fromarray(pixels).save(file, "png")
        return file.getvalue()


def as_images(images: Tensor) -> Tensor:
    """Return images (n, C, H, W) in [0, 1] as a tensor that notebooks show."""
    return images.as_subclass(ImageTensor)
