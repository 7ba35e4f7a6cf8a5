"""Turn a model on a chip into step times, KV capacity and goodput; know nothing of contracts or fleets."""
