"""Speak as clients and upstreams do: OpenAI's and Anthropic's requests, answers, streams and errors."""
