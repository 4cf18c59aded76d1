"""Readers: pages in, readings out."""
