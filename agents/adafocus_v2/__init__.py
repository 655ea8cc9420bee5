"""AdaFocusV2 (Wang et al. 2022, arXiv 2112.14238)."""

from agents.adafocus_v2.agent import AdaFocusV2
from agents.adafocus_v2.settings import AdaFocusV2Settings

__all__ = ["AdaFocusV2", "AdaFocusV2Settings"]
