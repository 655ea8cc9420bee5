"""From policies to result tables, and from result tables to curves."""
