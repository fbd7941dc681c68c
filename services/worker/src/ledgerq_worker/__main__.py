"""``python -m ledgerq_worker``."""

from ledgerq_worker.main import main

main()
