"""Every statement that the services run, with one module per verb. Builders return SQL and parameters and never
execute.

The hot statements take whole batches as arrays: one round trip, one plan, one commit for up to thousands of tasks. Only
these statements change ``task.state``, and every such change also writes its event and its counts.
"""
