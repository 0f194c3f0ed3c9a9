"""Ways to back a database up. Each file offers one ``METHOD``."""
