"""Alerts: what they are, how they are stored, who may read them."""
