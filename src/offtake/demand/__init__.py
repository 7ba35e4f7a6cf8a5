"""Say what is asked for: requests, their shapes and lengths, growth, shocks and training jobs."""
