"""What the parties say to each other, and what each computes on it. No I/O."""
