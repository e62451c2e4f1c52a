"""What a model learns from: sources, checks, snapshots and features."""
