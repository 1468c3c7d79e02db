"""Grafana dashboards as code: made here, shipped as JSON by charts/m2r.

`panels` wraps the vendor's SDK (grafana-foundation-sdk); the ``*_board`` modules say what is on
each dashboard; `model` reads a dashboard's JSON back; `lint` holds it against the declared series;
`prometheus` and `draw` fill the same panels by the same queries without a Grafana.
"""
