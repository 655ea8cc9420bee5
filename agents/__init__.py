"""The published agents, in Stable-Baselines3's shape: learn, predict, save, load."""
