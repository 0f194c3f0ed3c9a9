"""Where a database's backup comes from; ``take`` makes it now."""
