"""The exceptions that a user is meant to read."""

TRY_AGAIN = 75  # sysexits.h, EX_TEMPFAIL: a scheduler that sees it may start the same command again


class UserError(Exception):
    """Something a user can mend. The message is one line: what is wrong, where, what to do.

    The command line prints it without a traceback and exits with code 2.
    """


class Interrupted(Exception):
    """A training was asked to stop (SIGTERM) and has saved its state: the same command goes on from there.

    The command line prints it without a traceback and exits with ``TRY_AGAIN``.
    """
