"""Rewrites of graphs: graph in, graph out, valid before and after."""
