"""Strategy: agents, the pattern forecast, risk, and the decision of each instrument."""
