"""What surrounds the bundles, one file a command. Each is imported when it is asked for, so that the quick ones are."""
