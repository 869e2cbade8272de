"""From source text to fused graphs: parsing, elaboration, differentiation, passes. Knows nothing of machine code."""
