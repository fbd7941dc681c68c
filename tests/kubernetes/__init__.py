"""The chart on a real cluster: the lab's, of one node."""
