"""The host sensor: drains kernel records as columns and streams them; it never imports the control plane."""
