"""Ways to back a bucket up. Each file offers one ``METHOD``."""
