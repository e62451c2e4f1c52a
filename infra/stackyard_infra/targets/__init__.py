"""Which components make up a target."""
