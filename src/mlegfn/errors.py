"""The exceptions that a user is meant to read."""

__all__ = ["TRY_AGAIN", "Interrupted", "UserError"]

TRY_AGAIN = 75  # sysexits.h, EX_TEMPFAIL: a scheduler that sees it may start the same command again


class UserError(Exception):
    """A mistake in a user's files, settings or machine. The message is one line: where, what is wrong, what is expected.

    A command line prints it without a traceback and exits with code 2.
    """


class Interrupted(Exception):
    """A training was asked to stop (SIGTERM) and has saved its state: the same command goes on from there.

    A command line prints it without a traceback and exits with ``TRY_AGAIN``.
    """
