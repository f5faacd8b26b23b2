"""What runs have left of themselves: runs reads their logs, state looks at a destination."""
