"""The user's own pictures and product table, made into queries whose every true answer is known.

Layout: `products.csv` or `products.parquet` in the folder, pictures anywhere below it, and
optionally `pairs.csv` and `feedback/*.csv` with captions that people wrote.
"""
