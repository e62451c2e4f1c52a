"""Pure: from a spec to plain dicts. Nothing here knows Pulumi, asks the machine or reads a file."""
