"""Ways to keep configuration and secrets. Each file offers one ``METHOD``."""
