"""The resource provider `stackyard`: things with a life cycle on one machine, as Pulumi custom resources."""
