"""What we do to a cluster while it runs: something breaks, it heals, and every acknowledged write is accounted for."""
