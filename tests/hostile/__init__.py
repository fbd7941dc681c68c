"""The hostile hour: everything that strangers and operators' days do to a running LedgerQ, mixed, under an honest load.

================  ==================================================================================
`attacks`         one module for each; a process of its own runs one, `python -m tests.hostile.attacks`
`honest`          submitters and followers, who notice each answer, its time and its words
`targets`         `make run` and Compose: where the API is, its processes, its stores, its disk
`faults`          what becomes of the stores and of their disk, and when they served again
`memory`          what the API's processes had at each moment
`hour`            the order of it all, by a seed
`figures`         the table at the end
================  ==================================================================================

`make test-hostile` is the short form, `make test-hostile MINUTES=60 STACK=compose` a long one.
"""
