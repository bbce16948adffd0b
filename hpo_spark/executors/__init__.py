"""Where trials run: each executor is a `concurrent.futures.Executor` and knows nothing of trials."""
