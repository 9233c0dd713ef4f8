"""Wire contract between the sensor and the control plane: generated, never edited."""
