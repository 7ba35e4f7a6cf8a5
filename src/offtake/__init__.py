"""Offtake: plan, rehearse and route AI compute bought from many partners."""
