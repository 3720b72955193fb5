"""The panels of the monitor: each turns a View into rows of text, and repaints the rows that changed."""
