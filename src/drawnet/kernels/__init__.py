"""The CPU accelerator: C kernels that replace layers and operations of a model, explicitly.

`install(model)` compares each kernel with the model's own formula before it replaces it.
"""

from typing import Literal

import torch

from drawnet.kernels.compiled import library, serves
from drawnet.kernels.fastest import fastest
from drawnet.kernels.install import install, uninstall

__all__ = ["fastest", "install", "library", "operand_dtype", "precision", "serves", "uninstall"]


def precision(
    asked: str, kernels: str = "auto", device: str = "cpu"
) -> Literal["float32", "bfloat16"]:
    """'auto' resolved for this machine and kind of device: with kernels, the type measured faster."""
    if asked == "auto":
        served = kernels != "off" and device == "cpu" and serves(torch.bfloat16)
        return "bfloat16" if served and fastest()[0] is torch.bfloat16 else "float32"
    return "bfloat16" if asked == "bfloat16" else "float32"


def operand_dtype(asked: str, kernels: str = "auto", device: str = "cpu") -> torch.dtype:
    """The operand type of the matrix products for 'float32', 'bfloat16' or 'auto'."""
    return torch.bfloat16 if precision(asked, kernels, device) == "bfloat16" else torch.float32
