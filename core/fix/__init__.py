"""FIX 4.4: messages, the session as a sans-I/O state machine, and its durable store. Knows no venue and no gateway."""
