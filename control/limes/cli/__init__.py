"""The `limes` command: the one package that may import both sides."""
