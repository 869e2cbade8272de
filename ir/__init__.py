"""What a program is: types, graphs, operations, their text form, verifier and reference interpreter."""
