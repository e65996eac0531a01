"""Stamps for a catalogue's positions, from the cutout services of archives."""
