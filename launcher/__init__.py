"""What ``main.py`` runs: parse, configure, check, start, supervise, stop.

`options` (the command line) → `configuration` (where the stores are) → `checks` (can it work?) → `supervisor`
(processes and their restarts) → `screen` (what the person sees); `main` is the sequence.
"""
