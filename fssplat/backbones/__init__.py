"""ImageNet feature extractors behind one contract."""

from fssplat.backbones.base import Backbone, BackboneLayout, Features

__all__ = ["Backbone", "BackboneLayout", "Features"]
