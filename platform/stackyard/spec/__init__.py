"""The typed spec: read with `load`, which returns a `StackSpec` or raises `SpecError` with every problem at once."""

from stackyard.spec.problems import Origin, Problem, SpecError
from stackyard.spec.stack import StackSpec, check_leases, find_stack, load

__all__ = ["Origin", "Problem", "SpecError", "StackSpec", "check_leases", "find_stack", "load"]
