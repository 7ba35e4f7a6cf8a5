"""Show what a run found: one offline page, and short tables for the terminal."""
