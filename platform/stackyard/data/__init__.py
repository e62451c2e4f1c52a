"""Data: where rows come from, what they must look like, and how they are frozen so that a model can be made again."""
