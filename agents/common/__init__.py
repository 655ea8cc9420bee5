"""What the agents share: their files, the training loop, several processes, released checkpoints."""
