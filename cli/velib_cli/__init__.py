"""What an operator types: a bucket or a folder in; tables, pages and verdicts out."""
