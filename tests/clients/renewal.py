"""How long the token of a login is still good; a step of a slow client may have renewed it already."""

import time

__all__ = ["seconds_left"]

LONGEST_OF_A_LOGIN = 10
"""Seconds. The token of a login lives 6, and one that takes its place 60 (`tools/logins.py`)."""

APART = 2
"""Seconds. A token ends at a whole second, and a client counts from when it came: up to a second and the way of the answer later. A client
that is refused while it takes its token for good logs in anew."""


def seconds_left(expires: int) -> float:
    """Until its client knows that a token of a login has ended, which ends then (Unix time); 0 for one that has taken its place."""
    left = expires - time.time()
    return 0.0 if left > LONGEST_OF_A_LOGIN else max(0.0, left) + APART
