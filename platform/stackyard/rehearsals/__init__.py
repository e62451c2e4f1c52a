"""Faults that are rehearsed on a leased cluster, for real, and what they cost."""
