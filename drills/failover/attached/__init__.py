"""Failover drills on a cluster that somebody else runs: which its profile offers, and what they owe to it."""
