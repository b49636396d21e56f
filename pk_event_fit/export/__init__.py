"""Trained fields as modules of other ecosystems: `export.equinox` and `export.torch`, each importing its own."""
