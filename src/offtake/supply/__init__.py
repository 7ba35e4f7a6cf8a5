"""Turn the rows of a portfolio into terms that can be asked: what arrives when, what it costs, who may leave."""
