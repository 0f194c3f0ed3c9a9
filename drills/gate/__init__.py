"""The gate before an upgrade: what is asked of a deployment and its backups, and the rehearsal on a restored copy."""
