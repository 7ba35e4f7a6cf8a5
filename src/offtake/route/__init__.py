"""Route live requests under the plan: the rehearsed policy on the request path, every request in the ledger."""
