"""Training data: sources of records, conversion of records to batch rows, shuffling and batching."""
