"""LedgerQ's launcher (``python main.py --help``): starts services, and servers where none are configured."""

import sys

if sys.version_info < (3, 11):  # this file must parse on the Pythons that it refuses
    sys.stderr.write("LedgerQ needs Python 3.11 or newer; this is Python %d.%d.\n" % sys.version_info[:2])
    sys.exit(1)


def main():  # type: () -> None
    """Run the launcher; exits with its code."""
    # The folder of this file comes last, so that a file `email.py` beside it hides nothing.
    sys.path.append(sys.path.pop(0))
    try:
        from launcher.main import run
    except ModuleNotFoundError as error:
        sys.stderr.write(
            "LedgerQ is not installed in this Python (no module %r): run `pip install -r requirements.txt`, "
            "or `make run`, which makes its own environment.\n" % error.name
        )
        sys.exit(1)
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
