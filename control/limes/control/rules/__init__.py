"""The rule engine and what it needs: rules as files, their checks, their cases."""
