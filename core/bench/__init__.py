"""Measurements of the product's own parts, each beside its baseline; `tradetui bench`."""
