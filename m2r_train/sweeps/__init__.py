"""``m2r sweep``: the same manifests with one thing changed, over seeds."""
