"""Faults: real processes, real signals, servers that go away. Each test is named after the promise it proves.

`make test` runs them in a short form; `make test-chaos [MINUTES=n] [SEED=n]` in the long one, with the real lease.
`docs/guides/guarantees.md` lists promise, test, figure, and what goes red when a protection is taken out.
"""
