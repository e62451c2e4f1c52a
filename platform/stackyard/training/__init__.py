"""One training run: from an intent to a bundle in the store, with nothing left behind."""
