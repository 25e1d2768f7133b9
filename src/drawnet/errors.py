"""The one exception that users see."""


class UserError(Exception):
    """Something the user can mend: one line saying what is wrong, where, and what to do.

    The command line prints the line and exits with status 2; a library user may catch it.
    """
