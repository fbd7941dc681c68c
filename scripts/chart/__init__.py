"""The chart's schema and tables, made from the comments of its values.yaml."""
