"""Rehearse a fleet: serve requests with replicas, policy and events, and say what became of each."""
