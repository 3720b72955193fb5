"""What a session's recording says of its time: ranking, projections beside measurements, recommendations."""
