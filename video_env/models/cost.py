"""GFLOPs of any module on any input: counted, never typed in.

"GFLOPs" are 10^9 multiply-adds, as everywhere in this literature (ten ResNet-50 frames at 224x224 are
41); torch's counter counts a multiply-add as two operations, so its count is halved.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def count_gflops(module: nn.Module, *inputs: torch.Tensor, **options: Any) -> float:
    """10^9 multiply-adds of one forward pass in evaluation mode, for the whole batch.

    The pass runs on the meta device, so nothing is computed, only counted; ``inputs`` matter by shape
    and type alone. Convolutions, linear layers and matrix products count; elementwise work does not.
    """
    shadow = copy.deepcopy(module).to("meta").eval()
    with torch.no_grad(), counted_gflops() as gflops:
        shadow(*(tensor.to("meta") for tensor in inputs), **options)
    return gflops()


@contextmanager
def counted_gflops() -> Iterator[Callable[[], float]]:
    """Count all that runs inside; the value is a function that tells the 10^9 multiply-adds so far."""
    # Recurrent layers as single calls into oneDNN or cuDNN would not be counted; taken apart they are.
    with ExitStack() as stack:
        with warnings.catch_warnings():  # switching oneDNN off and on warns of TF32, which nothing here uses
            warnings.simplefilter("ignore", UserWarning)
            stack.enter_context(torch.backends.mkldnn.flags(enabled=False))
        stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        counter = stack.enter_context(FlopCounterMode(display=False))
        yield lambda: counter.get_total_flops() / 2 / 1e9
