"""What trading is: market data, strategy, risk, orders, venue, cycle, telemetry and commands."""
