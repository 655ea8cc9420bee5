"""The roof: the command line, the methods side by side, and the demonstration."""
