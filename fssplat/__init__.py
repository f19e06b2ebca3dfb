"""fssplat: a YAML grid of few-shot segmentation trials, run on Ray, ending in one honest table."""

__version__ = "0.1.0"
