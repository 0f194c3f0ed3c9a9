"""Lists the plugin modules, each of which owns its options, markers, header and fixtures."""

pytest_plugins = [
    "reports.plugin",
    "fixtures.plugin",
    "checks.plugin",
    "drills.plugin",
    "drills.failover.attached.plugin",
    "drills.failover.plugin",
    "drills.gate.plugin",
]
