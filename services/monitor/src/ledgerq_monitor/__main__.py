"""``python -m ledgerq_monitor``."""

from ledgerq_monitor.main import main

if __name__ == "__main__":
    main()
