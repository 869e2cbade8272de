"""Passes: from the graph of an entry to kernels. `pipelines` has their order."""
