"""The one exception a user can cause."""


class UserError(Exception):
    """Something the user can put right: one line that says what is wrong, where, and what to do."""
