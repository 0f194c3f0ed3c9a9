"""Negative controls: the proof, in every run, that the checks can fail.

Each control breaks a throw-away copy of what was just restored, in one known way, and looks at it with the very
functions that judged the restore. One that sees nothing fails the run. A healthy twin is such a copy left alone.
"""
