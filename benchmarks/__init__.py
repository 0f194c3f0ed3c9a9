"""How fast the drill is, beside a bare shell script that does the same with the same tools; ratios, never a timed test."""
