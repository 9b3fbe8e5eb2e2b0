"""What learning from rewards computes: returns and advantages over time, and losses of policies' distributions."""
