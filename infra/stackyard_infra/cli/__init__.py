"""The commands that need the plan; they join `stackyard` by the entry point group `stackyard.commands`."""
