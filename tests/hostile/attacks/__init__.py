"""Attacks: each is a coroutine that a process of its own runs for a while, against real sockets.

They count what came of it. What the server must never do is counted under a name that begins with `WRONG`.
"""
