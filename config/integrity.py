"""
Template tags for Subresource Integrity, from the hashes that `vestibule collect` wrote into staticfiles.json.

Copy this file as `integrity.py` into the `templatetags` folder of one of your apps. Then:

    {% load static integrity %}
    <script src="{% static 'shop/app.js' %}" {% integrity 'shop/app.js' %}></script>
    <link rel="stylesheet" href="{% static 'shop/site.css' %}" {% integrity 'shop/site.css' %}>

prints `integrity="sha384-…"`, and a browser runs the script only if it is the one that was collected. That
guards against a CDN, a proxy or a bucket that hands out something else. Where STATIC_URL names another host,
`crossorigin="anonymous"` is printed too, without which browsers cannot check files from there; `vestibule serve`
sends the header that they then want.

With DEBUG on, with a storage that has no manifest, and for a manifest that has no hashes, nothing is printed,
and the page works as before. A name that the manifest lacks is an error, as it is for `{% static %}`.

The manifest is read once per process, by Django's own storage, and so again after a restart only, as the
names are. Needs Django 4.2 or newer and nothing else.
"""

import json
from functools import lru_cache
from urllib.parse import urlsplit

from django import template
from django.conf import settings
from django.contrib.staticfiles.storage import staticfiles_storage
from django.utils.html import format_html
from django.utils.safestring import mark_safe

register = template.Library()


@lru_cache(maxsize=1)
def _hashes(storage):
    """Each file's hash by the name that `{% static %}` prints; anew for a storage that a test puts in place."""
    text = storage.read_manifest() if hasattr(storage, "read_manifest") else None
    files = json.loads(text or "{}").get("vestibule", {}).get("files", {})
    return {name: file["integrity"] for name, file in files.items() if file.get("integrity")}


def integrity_of(path):
    """The value of an `integrity` attribute for a static file; empty where there is none to be had."""
    if settings.DEBUG or not hasattr(staticfiles_storage, "stored_name"):
        return ""
    # `{% static %}` decodes its argument and takes a query off it; the storage does the same here.
    stored = urlsplit(staticfiles_storage.stored_name(path.partition("#")[0])).path
    return _hashes(staticfiles_storage).get(stored, "")


@register.simple_tag
def integrity(path):
    """The attributes with which a browser checks a static file; for `<script>` and `<link>`."""
    value = integrity_of(path)
    if not value:
        return ""
    attributes = format_html('integrity="{}"', value)
    if urlsplit(settings.STATIC_URL).netloc:
        attributes += mark_safe(' crossorigin="anonymous"')
    return attributes
