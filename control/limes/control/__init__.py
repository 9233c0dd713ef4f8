"""The control plane: stores events, runs rules and hunts; it never imports the sensor."""
