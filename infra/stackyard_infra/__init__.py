"""What exists: the Pulumi program, its components and the resource provider."""
