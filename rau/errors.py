"""The exception for errors caused by the user."""


class UserError(Exception):
    """An error that the user can fix: one line with what is wrong, where, and what to do."""
