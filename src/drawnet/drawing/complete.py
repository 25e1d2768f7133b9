"""Completions: missing pixels of an image, filled in several ways."""

from drawnet.models.latent import _proposed as _proposed
from drawnet.models.latent import completing as completing
