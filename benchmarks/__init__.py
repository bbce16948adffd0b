"""What the README claims, each by one command."""
