"""What a provider says when it cannot do its work: one sentence a user can act on, never a traceback."""

from __future__ import annotations


class Refusal(Exception):
    """One clear sentence: what did not work, why, and what to do. It reaches the user's screen as it is."""
