"""What must be true: pure checkers that compare what was expected with what was observed, and the conformance suites.

May import ``fixtures`` and ``reports.records``; a checker never changes what it looks at.
"""
