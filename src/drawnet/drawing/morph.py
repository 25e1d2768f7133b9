"""Morphs: interpolate between two images in latent space."""

from drawnet.models.latent import morphing as morphing
from drawnet.nn.distributions import spherical as spherical
