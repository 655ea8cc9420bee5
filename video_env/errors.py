"""The one exception for bad input: files, arguments and data that a user can mend."""


class InputError(ValueError):
    """Input that cannot be used.

    The message names the file, row or argument, what was found there and what was expected. The
    command line prints it without a traceback; every other exception is a defect of this package.
    """
