"""What a running site tells of itself: logs, traces, metrics."""
