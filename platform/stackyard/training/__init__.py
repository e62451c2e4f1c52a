"""How a model is made: one run, one Ray cluster, one bundle."""
