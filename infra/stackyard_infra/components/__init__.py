"""Pulumi components, each a noun: they register and wire, none decides."""
