"""A Django service with rate limits, in one file.

    pip install bide django gunicorn uvicorn
    gunicorn --chdir examples --preload --workers 2 django_service:application
    uvicorn --app-dir examples django_service:asgi_application

In a project of several files, wrap what ``wsgi.py`` and ``asgi.py`` make. Every bearer token, else every
client address, has 100 requests a second; logging in and exporting have limits of their own by their paths.
With --preload the limits are made before the workers are forked, and so all workers share them.
"""

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path

import bide

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["127.0.0.1", "localhost"])


def read_root(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"hello": "world"})


def export(request: HttpRequest, name: str = "") -> HttpResponse:
    return JsonResponse({"everything": name})


urlpatterns = [
    path("", read_root),
    path("login", read_root),
    path("export/<name>", export),
    path("health", read_root),
]

LIMITS = ("100/second",)
PATHS = {"/login": "5/minute", "/export/*": ["2/minute", "10/hour"], "/health": None}

application = bide.wsgi.RateLimit(get_wsgi_application(), *LIMITS, paths=PATHS)
asgi_application = bide.asgi.RateLimit(get_asgi_application(), *LIMITS, paths=PATHS)
