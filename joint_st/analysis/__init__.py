"""How well speech and text agree inside a model, layer by layer: distances, word times, retrieval, figures."""
