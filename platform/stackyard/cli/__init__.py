"""The `stackyard` command."""
