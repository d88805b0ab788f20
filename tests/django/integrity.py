"""
Renders `config/integrity.py`'s tag with the real Django.

    integrity.py OUTPUT FOLDER    prints, as JSON, what a list of templates renders to; writes FOLDER/page.html

OUTPUT is a folder that `vestibule collect` wrote. `tests/integrity.rs` looks at both.
"""

import json
import sys
from pathlib import Path

import django
from django.conf import settings
from django.test.utils import override_settings

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "config"))

MANIFEST = "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"
PLAIN = "django.contrib.staticfiles.storage.StaticFilesStorage"

# A script that runs says so; the second one has the hash of the first.
PAGE = """{% load static integrity %}<!DOCTYPE html><meta charset="utf-8"><body>
<script src="{% static 'right.js' %}" {% integrity 'right.js' %}></script>
<script src="{% static 'wrong.js' %}" {% integrity 'right.js' %}></script>
</body>"""


def render(text):
    """What a template renders to, or the name of the error."""
    from django.template import Context, engines

    try:
        return engines["django"].engine.from_string("{% load static integrity %}" + text).render(Context())
    except ValueError as error:
        return f"ValueError: {error}"


def main(output, folder):
    """Each case by its name."""
    settings.configure(
        INSTALLED_APPS=["django.contrib.staticfiles"],
        TEMPLATES=[
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "OPTIONS": {"libraries": {"integrity": "integrity"}},
            }
        ],
        STATIC_ROOT=output,
        STATIC_URL="/static/",
        STORAGES={"staticfiles": {"BACKEND": MANIFEST}},
    )
    django.setup()
    tag = "{% integrity 'right.js' %}"
    cases = {
        "plain": render(tag),
        "query": render("{% integrity 'right.js?v=1#x' %}"),
        "encoded": render("{% integrity 'a%20b.css' %}"),
        "variable": render("{% with x='a b.css' %}{% integrity x %}{% endwith %}"),
        "missing": render("{% integrity 'none.js' %}"),
    }
    with override_settings(STATIC_URL="https://cdn.example.com/static/"):
        cases["other host"] = render(tag)
    with override_settings(DEBUG=True):
        cases["debug"] = render(tag)
        cases["debug, missing"] = render("{% integrity 'none.js' %}")
    with override_settings(STORAGES={"staticfiles": {"BACKEND": PLAIN}}):
        cases["no manifest"] = render(tag)
    cases["again"] = render(tag)
    Path(folder, "page.html").write_text(render(PAGE))
    manifest = Path(output, "staticfiles.json")
    ours = json.loads(manifest.read_text())
    del ours["vestibule"]
    manifest.write_text(json.dumps(ours))
    with override_settings(STORAGES={"staticfiles": {"BACKEND": MANIFEST}}):
        cases["django's manifest"] = render(tag)
    json.dump(cases, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
