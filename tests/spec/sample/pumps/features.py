"""A feature function that is only looked at."""


def build(frame):
    raise NotImplementedError("never called")
