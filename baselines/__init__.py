"""What the published agents are compared with: heuristics, the oracle, Stable-Baselines3."""
