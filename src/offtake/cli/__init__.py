"""Offer each verb on the command line."""
