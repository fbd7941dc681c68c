"""The one error of this package."""

from ledgerq_shared.languages import SaidError


class EmbeddedError(SaidError):
    """An embedded server cannot run; the text is one line for a person, without passwords."""
