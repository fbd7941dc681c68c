"""``python -m ledgerq_api``."""

from ledgerq_api.main import main

main()
