"""What a run will do: its options and stages, their commands, time and memory; and what is complete already."""
