"""Plan which offers to sign and what runs where, under uncertainty."""
