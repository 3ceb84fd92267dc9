"""Faster forms of the networks, and export to other runtimes."""
