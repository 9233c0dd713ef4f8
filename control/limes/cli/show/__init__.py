"""How events, alerts, hunts and status look to a person, and as JSON."""
