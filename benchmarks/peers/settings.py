"""An ordinary production project on the same PostgreSQL and cache server, without anything of ours.

`PEER` names what it tries: a package that patches the ORM, or which middleware it has.
"""

import os

import dj_database_url

PEER = os.environ.get("PEER", "")
CACHE_URL = os.environ["DRAGONFLY_URL"]

SECRET_KEY = os.environ["DJANGO_SECRET_KEY"]
ALLOWED_HOSTS = ["127.0.0.1"]
INSTALLED_APPS = [
    *(["cacheops"] if PEER == "cacheops" else []),
    *(["cachalot"] if PEER == "cachalot" else []),
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "rest_framework",
    "rest_framework_simplejwt.token_blacklist",
    "benchmarks.peers",
]
# As `startproject` writes it, or nothing.
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
if PEER == "no middleware":
    MIDDLEWARE = []
ROOT_URLCONF = "benchmarks.peers.urls"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
AUTH_USER_MODEL = "peers.User"

DATABASES = {"default": dj_database_url.parse(os.environ["DATABASE_URL"], conn_health_checks=True)}
DATABASES["default"]["OPTIONS"] = {"pool": {"min_size": 0, "max_size": 20}}

_REDIS = {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": CACHE_URL}
_JSON = {"SERIALIZER": "django_redis.serializers.json.JSONSerializer"}
CACHES = {
    "default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": CACHE_URL},
    "django-redis": _REDIS,
    "django-redis JSON": {**_REDIS, "KEY_PREFIX": "json", "OPTIONS": _JSON},
}
SESSION_ENGINE = "django.contrib.sessions.backends.cached_db"

CACHEOPS_REDIS = CACHE_URL
CACHEOPS = {"peers.*": {"ops": "get", "timeout": 3600}}
CACHALOT_CACHE = "django-redis"

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["rest_framework_simplejwt.authentication.JWTAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
}
# The same tokens as ours, by the same key.
SIMPLE_JWT = {
    "SIGNING_KEY": os.environ["JWT_SIGNING_KEY"],
    "ISSUER": "aevon",
    "AUDIENCE": "aevon",
    "USER_ID_CLAIM": "sub",
    "TOKEN_TYPE_CLAIM": "typ",
    # Or TokenVerifyView does not look at the blacklist.
    "BLACKLIST_AFTER_ROTATION": True,
}
