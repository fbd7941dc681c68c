"""LedgerQ beside its peers, in one run on one machine; see docs/benchmarks.md.

`python -m benchmarks` lists what there is. Each benchmark is a module with one function `run`; `bed` starts the servers,
`cpu` says which process spent how much, `report` prints and writes.
"""
