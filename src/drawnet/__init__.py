"""drawnet: DRAW (Gregor et al. 2015, arXiv 1502.04623) and its family."""

__version__ = "0.1.0"
