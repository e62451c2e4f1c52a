"""The typed spec: read with `load`, which returns a `StackSpec` or raises `SpecError` with every problem at once."""
