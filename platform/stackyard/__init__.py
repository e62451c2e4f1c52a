"""What runs: training, serving, control, and the typed spec. No Pulumi in here."""
