"""Networks over frames and over their features, and what they cost."""
