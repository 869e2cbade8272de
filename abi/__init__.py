"""How native code is called, stated once: the code generator, the runtime and the C header read it here."""
