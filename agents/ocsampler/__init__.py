"""OCSampler (Lin et al. 2022, arXiv 2201.04388)."""

from agents.ocsampler.agent import OCSampler
from agents.ocsampler.settings import OCSamplerSettings

__all__ = ["OCSampler", "OCSamplerSettings"]
