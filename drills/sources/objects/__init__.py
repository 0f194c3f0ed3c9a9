"""Where a bucket's backup comes from; ``take`` copies it now."""
