"""The catalogue of task types, for people and programs that submit."""
