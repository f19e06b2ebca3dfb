"""Writes docs/settings.md from the specs and the methods: python docs/make_settings.py"""

from pathlib import Path

from fssplat.cli.settings_page import settings_page

if __name__ == "__main__":
    Path(__file__).with_name("settings.md").write_text(settings_page(), encoding="utf-8")
