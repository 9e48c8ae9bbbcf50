"""The one exception a user is meant to read."""


class UserError(Exception):
    """Something a user can mend. The message is one line: what is wrong, where, what to do.

    The command line prints it without a traceback and exits with code 2.
    """
