"""What the stages learn from: sources of records, what is done to a record, and the order in which rows come."""
