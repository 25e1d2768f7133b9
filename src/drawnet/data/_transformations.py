"""Transformations of an image and its mask, as in Dosovitskiy, Springenberg, Brox 2015, §3.

B images, C channels, S side; every parameter is 0 for the identity.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

# Each parameter and the bound on its magnitude in `drawn`.
SPREAD = {
    "rotation": 0.2,  # radians, counter-clockwise
    "right": 0.1,  # shift, of the side
    "down": 0.1,
    "zoom": 0.15,  # log of the factor
    "stretch": 0.1,  # log of the factor, along the rows
    "hue": 0.5,  # radians about the grey axis
    "saturation": 0.4,  # log of the factor
    "contrast": 0.2,  # log of the factor, about middle grey
    "brightness": 0.2,  # log of the factor
}


def drawn(uniform: Tensor) -> Tensor:
    """Map U(0, 1) of shape (B, 9) to parameters within ±SPREAD."""
    bounds = torch.tensor(list(SPREAD.values()), dtype=uniform.dtype)
    return (2 * uniform - 1) * bounds.to(uniform.device)


def transformed(images: Tensor, masks: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
    """Transform images (B, C, S, S) and masks (B, 1, S, S), both in 0..1, by parameters (B, 9).

    Stretched and zoomed about the centre, rotated, shifted; what comes in from outside is white, and 0
    in the mask.  Colours change within the mask only, so that the ground stays white.
    """
    b, c, height, side = images.shape
    if height != side or masks.shape != (b, 1, side, side) or parameters.shape != (b, len(SPREAD)):
        raise ValueError(
            f"images {tuple(images.shape)}, masks {tuple(masks.shape)} and parameters "
            f"{tuple(parameters.shape)} are not (B, C, S, S), (B, 1, S, S) and (B, {len(SPREAD)})"
        )
    both = torch.cat([1 - images, masks], 1)
    grid = F.affine_grid(inverse(parameters), list(both.shape), align_corners=False)
    both = F.grid_sample(both, grid, padding_mode="zeros", align_corners=False)
    images, masks = 1 - both[:, :c], both[:, c:]
    return torch.lerp(images, coloured(images, parameters), masks), masks


def inverse(parameters: Tensor) -> Tensor:
    """Return the inverse affine maps (B, 2, 3): (x right, y down, -1..1) of the result -> source."""
    rotation, right, down, zoom, stretch = parameters[:, :5].unbind(1)
    cos, sin = rotation.cos(), rotation.sin()
    turn = torch.stack([cos, -sin, sin, cos], 1).view(-1, 2, 2)
    shrink = torch.stack([-zoom - stretch, -zoom], 1).exp()
    back = shrink[:, :, None] * turn
    shift = -2 * back @ torch.stack([right, down], 1)[:, :, None]
    return torch.cat([back, shift], 2)


def coloured(images: Tensor, parameters: Tensor) -> Tensor:
    """Change hue, saturation, contrast and brightness in turn; the first two leave greys unchanged.

    The grey of a colour is the mean of red, green and blue; the difference to it is rotated about the
    grey axis (Rodrigues' formula) and scaled.
    """
    hue, *factors = (p[:, None, None, None] for p in parameters[:, 5:].unbind(1))
    saturation, contrast, brightness = (factor.exp() for factor in factors)
    grey = images.mean(1, keepdim=True)
    chroma = images - grey
    if images.shape[1] == 3:
        across = (chroma.roll(1, 1) - chroma.roll(-1, 1)) / 3**0.5  # (1, 1, 1)/√3 × chroma
        chroma = chroma * hue.cos() + across * hue.sin()
    light = grey + saturation * chroma
    return (brightness * (0.5 + contrast * (light - 0.5))).clamp(0, 1)
