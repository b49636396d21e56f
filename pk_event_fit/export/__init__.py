"""Trained fields as modules of other ecosystems: `export.equinox` and `export.torch`, each importing its own.

`python -m pk_event_fit.export RUN OUT` writes the model of a run as another file.
"""
