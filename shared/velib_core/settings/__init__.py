"""Environment variables in; frozen, validated settings out."""
