"""The tests. A regular package, so that no installed distribution's ``tests`` can stand in front of it."""
