"""What we do to a deployment: the engine, the backup methods, the disasters, the ledger writer, and the drill suites.

May import ``checks``, ``fixtures`` and ``reports.records``; methods and disasters import ``fixtures`` only, never each
other and never pytest.
"""
