"""Who starts and watches? A launch: checks, Ray, Tune, the live display, the end."""
