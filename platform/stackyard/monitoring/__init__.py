"""What the numbers say: one metrics endpoint a stack; drift and performance come to live here."""
