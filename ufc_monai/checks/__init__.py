"""What of keys and values is refused before anything is computed."""
