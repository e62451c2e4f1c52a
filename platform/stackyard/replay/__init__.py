"""A past lived through again: days of rows as requests to the real service, truths later, and what came of it."""
