"""AdaFocus, the first version (Wang et al. 2021, arXiv 2105.03245)."""

from agents.adafocus.agent import AdaFocus
from agents.adafocus.settings import AdaFocusSettings

__all__ = ["AdaFocus", "AdaFocusSettings"]
