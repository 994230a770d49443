"""How we ask the exchange, and what came back."""
