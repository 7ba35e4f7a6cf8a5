"""Keep every request: a journal that outlives the router, and the database that plans and bills read."""
