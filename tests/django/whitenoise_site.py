"""The site that tests/exchanges.rs makes, served by WhiteNoise and nothing else."""

import os
import re

from whitenoise import WhiteNoise


def nothing(environ, start_response):
    start_response("404 Not Found", [("Content-Length", "0")])
    return []


def is_hashed(path, url):
    return re.search(r"\.[0-9a-f]{12}\.", url)


application = WhiteNoise(nothing, os.environ["SITE"], prefix="/static/", max_age=60, immutable_file_test=is_hashed)
