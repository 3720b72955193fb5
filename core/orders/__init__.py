"""What an order is: its terms, its identity, its life cycle. Nothing here does I/O."""
