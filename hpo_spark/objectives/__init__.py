"""What one trial is: functions and models that are evaluated on workers."""
