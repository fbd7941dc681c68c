"""The one error of this package."""


class EmbeddedError(Exception):
    """An embedded server cannot run; the text is one line for a person, without passwords."""
