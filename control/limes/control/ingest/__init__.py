"""Takes events from sensors: checks and decodes them, acknowledges after the writer's commit."""
