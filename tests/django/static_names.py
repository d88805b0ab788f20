"""
What Django itself says of the static files that templates name.

    static_names.py OUTPUT TEMPLATES...    prints [[file, name or null, whether it raises]] as JSON

OUTPUT holds a staticfiles.json. The templates are compiled by Django, and each `{% static %}` in them is
rendered by itself; null stands for a name that is not a constant. `tests/audit.rs` compares.
"""

import json
import sys
from pathlib import Path

import django
from django.conf import settings


def names(folder):
    """Each `{% static %}` below a folder."""
    from django.template import Context, engines
    from django.templatetags.static import PrefixNode, StaticNode

    engine = engines["django"].engine
    for path in sorted(Path(folder).rglob("*.html")):
        # Without universal newlines and the like: what Django's own loader does.
        template = engine.from_string(path.read_text(encoding="utf-8"))
        for _ in template.nodelist.get_nodes_by_type(PrefixNode):
            yield [str(path), None, False]
        for node in template.nodelist.get_nodes_by_type(StaticNode):
            if node.path.filters or not isinstance(node.path.var, str) or "_(" in node.path.token:
                yield [str(path), None, False]
                continue
            try:
                node.render(Context())
            except ValueError:
                yield [str(path), str(node.path.var), True]
            else:
                yield [str(path), str(node.path.var), False]


def main(output, *folders):
    """All of it."""
    settings.configure(
        INSTALLED_APPS=[
            "django.contrib.admin",
            "django.contrib.admindocs",
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.sessions",
            "django.contrib.messages",
            "django.contrib.staticfiles",
        ],
        TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}],
        STATIC_ROOT=output,
        STATIC_URL="/static/",
        STORAGES={"staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"}},
    )
    django.setup()
    json.dump([found for folder in folders for found in names(folder)], sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
