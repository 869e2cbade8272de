"""The language: text to tokens to syntax tree, and back."""
