"""Read and check the portfolio folder: tables and TOML in, checked records or every fault at once out."""
