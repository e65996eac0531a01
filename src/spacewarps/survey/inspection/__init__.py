"""A survey as delivered, looked at before anybody has said what its columns are and how its stamps are read."""
