"""Mutations: protections of the product, each taken out by a small patch, each with the tests that then go red.

The patches stand in the `.toml` files beside this one; `make mutants` tries them, `patches` reads them, `lane` has a copy
of the tree in which one at a time is tried.
"""
