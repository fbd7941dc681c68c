"""``python -m ledgerq_shared.embedded remove FOLDER``: stop the servers in a folder and delete their data."""

import sys
from pathlib import Path

from ledgerq_shared.embedded import EmbeddedError, EmbeddedServers
from ledgerq_shared.languages import say, told


def main(arguments: list[str]) -> int:
    """Run the one command; returns the exit code."""
    if len(arguments) != 2 or arguments[0] != "remove":
        sys.stderr.write(f"{told(say('usage: python -m ledgerq_shared.embedded remove FOLDER'))}\n")
        return 2
    folder = Path(arguments[1])
    if not folder.exists():
        return 0
    try:
        EmbeddedServers(folder).remove()
    except EmbeddedError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
