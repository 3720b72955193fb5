"""An exchange of our own: matching engine, house liquidity, accounts, and a Binance-Spot-compatible front end."""
