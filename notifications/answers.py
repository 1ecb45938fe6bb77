"""What the other side has said to a message, or what is known without its answer."""


class NotSent(Exception):
    """The other side certainly did not take the message now."""


class Refused(NotSent):
    """It never will: trying again gives the same answer."""


class Unavailable(NotSent):
    """Not now: it may take the message later."""


class Unknown(Exception):
    """It may have taken the message, and may not: nothing that was said tells."""
