"""The reconciler: pure decide, dumb act."""
