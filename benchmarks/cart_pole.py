"""Gymnasium's native vector CartPole, some of whose environments can be reset alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv


class NativeCartPoles(CartPoleVectorEnv):
    """CartPole-v1 as Gymnasium steps it, with ``reset(options={"reset_mask": bool [num_envs]})``, which it
    does not know by itself and without which nothing can give an ended episode's successor at once."""

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        mask = (options or {}).get("reset_mask")
        if mask is None:
            return super().reset(seed=seed, options=options)
        self.state[:, mask] = self.np_random.uniform(self.low, self.high, (4, int(mask.sum())))
        self.steps[mask], self.prev_done[mask] = 0, False
        return self.state.T.astype(np.float32), {}
