"""Tells operators how the control plane is, and shows them events as they are committed."""
