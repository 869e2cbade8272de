"""The families of kernels that are no loop nest: products, attention, sorting, recurrences and the rest."""
