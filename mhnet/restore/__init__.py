"""Restoring: one image, folders, videos, and very many files by Ray."""
