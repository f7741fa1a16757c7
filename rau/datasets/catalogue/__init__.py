"""Queries generated from a user's images and product table, with all correct answers known.

Layout: `products.csv` or Parquet files in the folder, images anywhere below it, and optionally
`pairs.csv` and `feedback/*.csv` with captions that people wrote.
"""
