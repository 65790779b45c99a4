"""Reading the tables that users upload, CSV or Parquet, into blocks of numbers."""
