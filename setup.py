"""Build script: every piece of metadata comes from settings.ini."""
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
config = ConfigParser(delimiters=["="])
config.read(here / "settings.ini", encoding="utf-8")
meta = config["DEFAULT"]


def lines(key):
    return [line.strip() for line in meta[key].splitlines() if line.strip()]


setup(
    version=meta["version"],
    description=meta["description"],
    long_description=(here / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author=meta["author"],
    license=meta["license"],
    keywords=meta["keywords"],
    python_requires=f">={meta['min_python']}",
    packages=find_packages(include=["skelnb", "skelnb.*"]),
    package_data={"skelnb": ["static/*.js", "static/jupyter/labconfig/*.json"]},
    install_requires=lines("requirements"),
    extras_require={"dev": lines("dev_requirements")},
    entry_points={"console_scripts": ["skelnb=skelnb.cli:main"]},
)
