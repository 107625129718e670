"""Programs that are more than a lesson."""
