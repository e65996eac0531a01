"""What a team runs to share MLflow, on this machine and for trying out: PostgreSQL, S3, and a server with passwords."""
