"""Decide which pool serves a request, by pure compiled functions that rehearsal and router share."""
