"""Where the backups come from that a shadow restore restores: one file for each kind of place."""
