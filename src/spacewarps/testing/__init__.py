"""What every executor, journal and strategy must do: suites that the tests of a new one inherit. They need pytest."""
