"""What every process of LedgerQ has: logs, metrics, traces, signals, timers."""
