"""Rewards of the user's own: a function in one Python file, run in a process apart.

``worker`` is that process and knows the standard library alone, ``process`` starts it, asks it and
ends it, ``purity`` refuses a function that does not give equal values for equal arguments. Nothing
is imported here: the worker would import it too, at each start.
"""
