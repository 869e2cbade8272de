"""Loop nests: pointwise work and reductions over any axes, as terms over the axes of loops."""
