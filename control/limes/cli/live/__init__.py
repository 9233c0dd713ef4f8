"""`limes up` and `limes replay`: real processes started, watched, judged and stopped."""
