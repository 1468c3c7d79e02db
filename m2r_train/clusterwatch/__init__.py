"""``m2r run --watch``: a cluster's runs in the terminal, read-only.

The one package of the trainer that talks to Kubernetes, and nobody's but the command line's: what
computes is told by files and tells by HTTP (docs/adr/0005). ``access`` asks the API server,
``following`` keeps one kind up to date, ``board`` is what is known, ``showing`` draws it.
"""
