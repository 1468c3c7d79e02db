"""The rules of the eight public benchmarks: what is read from a model's text, and what it scores.

One module a benchmark: its scorers are pure functions of (record, text) under the name of the rule
that they follow (``official``, ``vlmevalkit``, ``lmms-eval``), and its figures are pure functions
of the scored rows. Where the published scorer asks a model, the part that rules can do is done and
``Benchmark.judge`` says what is left out. No text of a model is ever evaluated.
"""
