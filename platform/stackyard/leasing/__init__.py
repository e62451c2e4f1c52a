"""When a lent cluster ends, and how, with nobody there: facts, a decision with its reason, suspension."""
