"""Scores: protocols, tables, reports."""
