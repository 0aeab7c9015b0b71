"""A referee for derivations."""
__version__ = "0.1.0"
