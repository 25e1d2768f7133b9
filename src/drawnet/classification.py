"""Learners that name an image's class: their objective and their answers, written once.

B images   K classes   logits (B, K), unnormalised log p(class | x)
"""

from abc import abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor

from drawnet.learner import Draws, How, Learner, Objective


class Classifies(Learner):
    """A classifier of images."""

    criterion = "error"

    @abstractmethod
    def logits(self, x: Tensor, precision: torch.dtype | None = None) -> Tensor:
        """x (B, C, H, W) in [0, 1] -> (B, K)."""

    def objective(self, x: Tensor, y: Tensor, noise: Draws, how: How) -> Objective:
        """-log p(class | x), nats; measures: that, and error, 1 where the likeliest is wrong."""
        logits = self.logits(x, how.precision)
        loss = F.cross_entropy(logits, y, reduction="none")
        wrong = (logits.argmax(1) != y.argmax(1)).float()
        return Objective(loss, {"cross_entropy": loss, "error": wrong})

    @torch.no_grad()
    def classify(self, x: Tensor) -> Tensor:
        """p(class | x) of every image, (B, K)."""
        self.eval()
        return self.logits(x).softmax(1)
