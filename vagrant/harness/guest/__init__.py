"""The part that runs inside the guest; it imports nothing but the standard library and itself."""
