"""Gradual learning-rate warm-up for PyTorch optimizers."""

from .scheduler import GradualWarmupScheduler

__version__ = "1.0.0"
__all__ = ["GradualWarmupScheduler", "__version__"]
