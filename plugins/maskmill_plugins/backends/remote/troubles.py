"""What can be wrong with an answer, by what is to be done about it.

`ImageError` and `StopRun` go on to the framework as they are; the three of this module
are settled between the client and its servers.
"""

from __future__ import annotations

#: Characters of a server's own words that are passed on.
LONGEST = 1000


class Away(Exception):  # noqa: N818 - a condition, not a mistake
    """This server cannot be asked now; another may, or the same one later.

    Args:
        reason: why, in words.
        wait: seconds after which it asks to be asked again, None if it does not say.
        busy: it is there and has too much to do.
        lost: the connection broke when the request had been sent: it may have died of it.
    """

    def __init__(self, reason: str, wait: float | None = None, *, busy: bool = False, lost: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.wait = wait
        self.busy = busy
        self.lost = lost


class Faulty(Exception):  # noqa: N818 - a condition, not a mistake
    """The server answered, but not with what was asked for; a second try may help, a tenth will not."""


class UnknownImage(Exception):  # noqa: N818 - a condition, not a mistake
    """The server does not hold the image, or no longer."""
