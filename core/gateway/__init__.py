"""The process that holds the venue's keys: journals an order first, sends it once, and knows what became of it."""
