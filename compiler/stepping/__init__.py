"""One step at a time: the graph of one place of a sequence, from that of all of them."""
