"""The drill's speed beside a bare shell script's with the same tools, as ratios of one run, never as a timed test."""
