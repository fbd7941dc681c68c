"""How the launcher gives up: one line for a person, and an exit code."""

from ledgerq_shared.languages import SaidError


class LauncherError(SaidError):
    """Something that the person at the terminal has to change; never contains a password."""

    exit_code = 1


class UsageError(LauncherError):
    """The command line or the configuration is wrong."""

    exit_code = 2
