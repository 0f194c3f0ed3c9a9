"""The conformance checks: what a deployment that is up must do. One file per subject, one function per check."""
