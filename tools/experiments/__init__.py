"""The experiments of examples/experiments: what is to run, running it, and docs/experiments.md.

`catalogue` names every run by what it is made of; `kept` makes a run a few kilobytes of JSON, and
the JSON a run again; `running` runs what has no JSON yet; `figures` and `page` make the page of the
JSON alone, by the functions of ``m2r report --claim``.
"""
