"""Every statement that the services run, one module per verb. Builders return SQL and parameters and never execute.

The hot statements take whole batches as arrays: one round trip, one plan, one commit for up to thousands of tasks.
No code changes ``task.state`` except through here, and every such change also writes its event and its counts.
"""
