"""What is left of what a stack had: a ledger of everything expected, a search for it, a signed certificate."""
