"""
A site whose files Django guards and does not send: django-sendfile2 and django-downloadview, each as its own
documentation sets it up. `tests/send_file.rs` runs it under gunicorn.

FILES    the folder of the files
BACKEND  "nginx" (X-Accel-Redirect) or "xsendfile" (X-Sendfile)
"""

import os

import django
from django.conf import settings

FILES, BACKEND = os.environ["FILES"], os.environ["BACKEND"]

DOWNLOADVIEW = {
    "nginx": (
        "django_downloadview.nginx.XAccelRedirectMiddleware",
        [{"source_url": "/stored/", "destination_url": "/protected/"}],
    ),
    "xsendfile": (
        "django_downloadview.apache.XSendfileMiddleware",
        [{"source_url": "/stored/", "destination_dir": FILES}],
    ),
}

settings.configure(
    SECRET_KEY="nothing here is worth protecting",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    USE_TZ=True,
    MIDDLEWARE=[
        "django.middleware.gzip.GZipMiddleware",
        "django.middleware.http.ConditionalGetMiddleware",
        "django.middleware.security.SecurityMiddleware",
        "django.middleware.clickjacking.XFrameOptionsMiddleware",
        "django_downloadview.SmartDownloadMiddleware",
    ],
    SENDFILE_BACKEND=f"django_sendfile.backends.{BACKEND}",
    SENDFILE_ROOT=FILES,
    SENDFILE_URL="/protected",
    DOWNLOADVIEW_BACKEND=DOWNLOADVIEW[BACKEND][0],
    DOWNLOADVIEW_RULES=DOWNLOADVIEW[BACKEND][1],
)
django.setup()

from django.core.files.storage import FileSystemStorage  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.http import HttpResponse  # noqa: E402
from django.urls import path  # noqa: E402
from django.views.decorators.csrf import csrf_exempt  # noqa: E402
from django_downloadview import StorageDownloadView  # noqa: E402
from django_sendfile import sendfile  # noqa: E402


@csrf_exempt
def sent(request, name):
    """By django-sendfile2, for saving, and only for whoever it is shown to."""
    response = sendfile(request, os.path.join(FILES, name), attachment=True)
    response["Cache-Control"] = "private, max-age=60"
    response.set_cookie("seen", "yes")
    return response


def bare(request, name):
    """By hand, as in the README."""
    return HttpResponse(headers={"X-Accel-Redirect": f"/protected/{name}", "Content-Type": ""})


stored = StorageDownloadView.as_view(storage=FileSystemStorage(FILES, base_url="/stored/"))

urlpatterns = [path("sent/<path:name>", sent), path("stored/<path:path>", stored), path("bare/<path:name>", bare)]
application = get_wsgi_application()
