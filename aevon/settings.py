"""Django's settings, driven by the environment (docs/reference/settings.md lists them all)."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import dj_database_url

from aevon import env

BASE_DIR = Path(__file__).resolve().parent.parent
AEVON_ENV = env.choice("AEVON_ENV", "development", ("development", "production"))
DEVELOPMENT = AEVON_ENV == "development"
AEVON_DATA_DIR = Path(env.text("AEVON_DATA_DIR", str(BASE_DIR / ".aevon"))).resolve()
RUNNING = env.running(AEVON_DATA_DIR)

DATABASE_URL = env.text("DATABASE_URL", RUNNING.get("databaseUrl", ""))
DRAGONFLY_URL = env.text("DRAGONFLY_URL", RUNNING.get("dragonflyUrl", ""))

# --- Security -------------------------------------------------------------------------------

DEBUG = False
SECRET_KEY = env.secret("DJANGO_SECRET_KEY", data_dir=AEVON_DATA_DIR, development=DEVELOPMENT)
# What was signed with these is still read: the key before, for the time of an exchange.
SECRET_KEY_FALLBACKS = [
    key for key in env.confidential("DJANGO_SECRET_KEY_FALLBACKS").split(",") if key
]
# Text; auth_sessions/keys.py makes keys of it.
JWT_SIGNING_KEY = env.secret("JWT_SIGNING_KEY", data_dir=AEVON_DATA_DIR, development=DEVELOPMENT)
JWT_ACCEPTED_KEYS = env.confidential("JWT_ACCEPTED_KEYS")
LOCAL_HOSTS = "localhost,127.0.0.1,[::1]" + (",testserver" if DEVELOPMENT else "")
ALLOWED_HOSTS = env.names("AEVON_ALLOWED_HOSTS", LOCAL_HOSTS)
# Where the admin is. In production nobody guesses it (docs/operations.md tells how to ask).
AEVON_ADMIN_PATH = env.path(
    "AEVON_ADMIN_PATH", "admin" if DEVELOPMENT else f"admin-{env.derived(SECRET_KEY, 'admin-path')}"
)
# Findings of `manage.py check` that an operator has looked at, by their ids.
SILENCED_SYSTEM_CHECKS = env.names("AEVON_SILENCED_CHECKS", "")
CSRF_TRUSTED_ORIGINS = env.names("AEVON_CSRF_TRUSTED_ORIGINS", "")
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
SESSION_COOKIE_HTTPONLY = CSRF_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Strict"
SESSION_COOKIE_AGE = 8 * 3600  # the admin's: a working day, and no request moves its end
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = AUTH_REFRESH_COOKIE_SECURE = not DEVELOPMENT
AUTH_REFRESH_COOKIE_NAME = "aevon_refresh"
if not DEVELOPMENT:
    # Neither another host of the domain nor a page without TLS can put one in its place. The last
    # goes to one path only, which `__Host-` does not allow.
    SESSION_COOKIE_NAME, CSRF_COOKIE_NAME = "__Host-sessionid", "__Host-csrftoken"
    AUTH_REFRESH_COOKIE_NAME = f"__Secure-{AUTH_REFRESH_COOKIE_NAME}"
SECURE_SSL_REDIRECT = not DEVELOPMENT
# Gateways ask inside the network, without TLS.
SECURE_REDIRECT_EXEMPT = [r"^api/v1/auth/validate/$", r"^\.well-known/jwks\.json$"]
# Proxies in front that write X-Forwarded-For and -Proto; with none, these are a client's invention.
AEVON_TRUSTED_PROXIES = env.integer("AEVON_TRUSTED_PROXIES", 0, minimum=0, maximum=10)
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if AEVON_TRUSTED_PROXIES else None
SECURE_HSTS_SECONDS = 0 if DEVELOPMENT else 31_536_000
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = not DEVELOPMENT
DATA_UPLOAD_MAX_MEMORY_SIZE = AEVON_MAX_BODY_BYTES = 256 * 1024

# --- Applications ---------------------------------------------------------------------------

INSTALLED_APPS = [
    "unfold",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "drf_standardized_errors",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_celery_beat",
    "aevon.cache",
    "aevon.page",
    "aevon.operations",
    "auth_sessions",
    "klepsydra",
    "canvas",
    "beep",
]
MIDDLEWARE = [
    "aevon.telemetry.request_id.RequestIdMiddleware",
    "aevon.headers.HeadersMiddleware",
    "aevon.health.ProbesMiddleware",
    "aevon.telemetry.scrape.MetricsMiddleware",
    # Around the redirect to https, too: a POST keeps its method and body.
    "aevon.api.middleware.ProblemMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
# Where spans are sent; unset, nothing of OpenTelemetry is imported.
AEVON_OTLP_ENDPOINT = env.text("AEVON_OTLP_ENDPOINT")
if AEVON_OTLP_ENDPOINT:
    # Inside the first, whose id its span has.
    MIDDLEWARE.insert(1, "aevon.telemetry.tracing.TracingMiddleware")
ROOT_URLCONF = "aevon.urls"
WSGI_APPLICATION = "aevon.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
UNFOLD = {
    "SITE_TITLE": "ΛΞVON OS",
    "SITE_HEADER": "ΛΞVON OS",
    "SITE_SYMBOL": "bolt",
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": "/static/page/mark.svg"}],
    "LOGIN": {"form": "auth_sessions.admin_login.AdminLoginForm"},
    "SIDEBAR": {"navigation": "aevon.operations.sidebar.navigation"},
}
LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True
STATIC_URL = "static/"
# Development serves the packages' own files; a deployment runs collectstatic first.
STATIC_ROOT = env.text("AEVON_STATIC_ROOT", "" if DEVELOPMENT else str(BASE_DIR / "staticfiles"))
WHITENOISE_USE_FINDERS = DEVELOPMENT
WHITENOISE_AUTOREFRESH = False
WHITENOISE_ALLOW_ALL_ORIGINS = False
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- PostgreSQL -----------------------------------------------------------------------------

DATABASES = {
    "default": dj_database_url.parse(
        # Nothing listens on this port: a command that needs PostgreSQL says so in one line.
        DATABASE_URL or "postgres://aevon@127.0.0.1:1/aevon",
        engine="aevon.postgresql",  # Django's, for a server that may freeze
        conn_health_checks=True,
    )
}
DATABASES["default"].setdefault("OPTIONS", {})
# A server that vanished from the network is noticed by the kernel within ten seconds; one that
# hangs, or is behind a proxy, by aevon/postgresql/watch.py.
DATABASES["default"]["OPTIONS"] = {
    "connect_timeout": 3,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
    **DATABASES["default"]["OPTIONS"],
}
# A writer's fence lasts longer than its transaction can. The triggers tell these connections from
# others by the last option.
AEVON_FENCE_SECONDS = env.number("AEVON_FENCE_SECONDS", 5, minimum=1, maximum=60)
DATABASES["default"]["OPTIONS"]["options"] = " ".join(
    [
        DATABASES["default"]["OPTIONS"].get("options", ""),
        f"-c statement_timeout={AEVON_FENCE_SECONDS * 800:.0f}",
        f"-c idle_in_transaction_session_timeout={AEVON_FENCE_SECONDS * 800:.0f}",
        "-c aevon.writer=app",
    ]
)
DATABASES["default"]["OPTIONS"]["pool"] = {
    "min_size": 0,
    "max_size": env.integer("AEVON_DATABASE_POOL_SIZE", 20, minimum=1, maximum=1000),
    # Less than the five seconds that a gateway waits.
    "timeout": 3,
    # For how long it tries to connect, with pauses that double, before it begins anew for who asks.
    # Its default, five minutes, would keep a process from a PostgreSQL that is long back.
    "reconnect_timeout": 1,
}

# Statements that are executed again and again are planned once per connection. Only these
# (aevon/cache/prepared.py): the ORM binds its parameters in the client.
if env.choice("AEVON_DATABASE_PREPARED", "on", ("on", "off")) == "on":
    DATABASES["default"]["OPTIONS"]["prepare_threshold"] = 0

# --- Dragonfly: the Reflex Arc --------------------------------------------------------------

AEVON_CACHE: dict[str, Any] = {
    "URL": DRAGONFLY_URL or "redis://127.0.0.1:1/0",
    "CONNECT_TIMEOUT_SECONDS": env.number(
        "AEVON_CACHE_CONNECT_TIMEOUT_SECONDS", 0.1, minimum=0.01, maximum=10
    ),
    "READ_TIMEOUT_SECONDS": env.number(
        "AEVON_CACHE_READ_TIMEOUT_SECONDS", 0.3, minimum=0.01, maximum=10
    ),
    "POOL_SIZE": env.integer("AEVON_CACHE_POOL_SIZE", 32, minimum=1, maximum=1000),
    "POOL_WAIT_SECONDS": 0.25,
    "BREAKER_OPEN_SECONDS": 1.0,
    "LEASE_SECONDS": 5.0,
    "LEASE_WAIT_SECONDS": 0.5,
    "FENCE_SECONDS": AEVON_FENCE_SECONDS,
    "GONE_TTL_SECONDS": 60,
    "PSYCHE_TTL_SECONDS": env.integer(
        "AEVON_PSYCHE_TTL_SECONDS", 86_400, minimum=1, maximum=31_536_000
    ),
    "CANVAS_IDLE_TTL_SECONDS": env.integer(
        "AEVON_CANVAS_IDLE_TTL_SECONDS", 86_400, minimum=1, maximum=31_536_000
    ),
    "CONVO_HISTORY_TTL_SECONDS": env.integer(
        "AEVON_CONVO_HISTORY_TTL_SECONDS", 86_400, minimum=1, maximum=31_536_000
    ),
    "NEAR_CACHE": env.counts("AEVON_NEAR_CACHE", maximum=10_000_000),
}
CACHES = {
    "default": {
        "BACKEND": "aevon.cache.backend.ReflexCache",
        "LOCATION": AEVON_CACHE["URL"],
        "KEY_PREFIX": "django",
    }
}
# Admin log-ins must outlive a cache outage.
SESSION_ENGINE = "django.contrib.sessions.backends.db"
MESSAGE_STORAGE = "django.contrib.messages.storage.session.SessionStorage"

# --- Identity -------------------------------------------------------------------------------

AUTH_USER_MODEL = "auth_sessions.User"
PASSWORD_HASHERS = [
    "auth_sessions.hashers.LeanArgon2Hasher",
    "auth_sessions.hashers.ImportedPBKDF2Hasher",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
JWT_ACCESS_SECONDS = env.integer("JWT_ACCESS_SECONDS", 900, minimum=5, maximum=86_400)
SIMPLE_JWT = {
    "ISSUER": "aevon",
    "AUDIENCE": "aevon",
    "USER_ID_CLAIM": "sub",
    "TOKEN_TYPE_CLAIM": "typ",
    "ACCESS_TOKEN_LIFETIME": timedelta(seconds=JWT_ACCESS_SECONDS),
    "REFRESH_TOKEN_LIFETIME": timedelta(
        seconds=env.integer(
            "JWT_REFRESH_SECONDS", 604_800, minimum=JWT_ACCESS_SECONDS, maximum=31_536_000
        )
    ),
}
AUTH_REFRESH_GRACE = timedelta(
    seconds=env.integer("JWT_REFRESH_GRACE_SECONDS", 10, minimum=0, maximum=60)
)
AUTH_SESSION_LIFETIME = timedelta(
    seconds=env.integer(
        "AUTH_SESSION_SECONDS", 2_592_000, minimum=JWT_ACCESS_SECONDS, maximum=315_360_000
    )
)
AUTH_SESSION_RECORDS = timedelta(
    days=env.integer("AUTH_SESSION_RECORD_DAYS", 90, minimum=1, maximum=36_500)
)
# Each raises one row more when they all end at once.
AUTH_SESSIONS_PER_USER = env.integer("AUTH_SESSIONS_PER_USER", 500, minimum=1, maximum=5_000)
AUTH_LOGIN_ATTEMPTS_PER_USERNAME = env.integer(
    "AUTH_LOGIN_ATTEMPTS_PER_USERNAME", 10, minimum=1, maximum=100_000
)
AUTH_LOGIN_ATTEMPTS_PER_ADDRESS = env.integer(
    "AUTH_LOGIN_ATTEMPTS_PER_ADDRESS", 100, minimum=1, maximum=1_000_000
)

# --- The HTTP API ---------------------------------------------------------------------------

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["auth_sessions.authentication.SessionTokenAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_PARSER_CLASSES": ["aevon.api.parsers.StrictJSONParser"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_SCHEMA_CLASS": "aevon.api.schema.ProblemAutoSchema",
    "EXCEPTION_HANDLER": "drf_standardized_errors.handler.exception_handler",
    "UNAUTHENTICATED_USER": None,
    # RFC 3339 in UTC with microseconds, as in the cached documents.
    "DATETIME_FORMAT": "%Y-%m-%dT%H:%M:%S.%fZ",
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}
DRF_STANDARDIZED_ERRORS = {
    "EXCEPTION_HANDLER_CLASS": "aevon.api.problems.ProblemHandler",
    "EXCEPTION_FORMATTER_CLASS": "aevon.api.problems.ProblemFormatter",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "ΛΞVON OS · the Reflex Arc",
    "DESCRIPTION": "DragonflyDB in front of PostgreSQL: PsycheState, Canvas, sessions and BEEP.",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "SERVE_AUTHENTICATION": [],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "COMPONENT_SPLIT_REQUEST": True,
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "auth_sessions.gateway.document",
        "auth_sessions.jwks.document",
    ],
}

# --- BEEP -----------------------------------------------------------------------------------

BEEP_RETENTION = timedelta(
    days=env.integer("AEVON_BEEP_RETENTION_DAYS", 90, minimum=1, maximum=36_500)
)
AEVON_BEEP_RESOLVER = env.text("AEVON_BEEP_RESOLVER", "beep.context.resolve")
# Asked by `beep.llm.resolve` alone.
AEVON_BEEP_LLM_URL = env.text("AEVON_BEEP_LLM_URL")
AEVON_BEEP_LLM_MODEL = env.text("AEVON_BEEP_LLM_MODEL")
AEVON_BEEP_LLM_KEY = env.confidential("AEVON_BEEP_LLM_KEY")
AEVON_BEEP_LLM_TIMEOUT_SECONDS = env.number(
    # A command is answered within 750 ms, whoever resolves it.
    "AEVON_BEEP_LLM_TIMEOUT_SECONDS",
    0.6,
    minimum=0.05,
    maximum=10,
)

# --- Celery (aevon/celery.py holds the schedule) --------------------------------------------

CELERY_BROKER_URL = env.broker_url(env.text("CELERY_BROKER_URL", AEVON_CACHE["URL"]))
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "global_keyprefix": "celery:broker:",
    "visibility_timeout": 600,
    "socket_connect_timeout": 2,
    "socket_timeout": 10,
    "socket_keepalive": True,
    "health_check_interval": 15,
}
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
# A broker that has become a replica, or is full, answers with an error: no reason to end either.
CELERY_BROKER_CHANNEL_ERROR_RETRY = True
# Where it is scraped, if not through a folder that it shares with web; 0: nowhere.
AEVON_WORKER_METRICS_PORT = env.integer("AEVON_WORKER_METRICS_PORT", 0, minimum=0, maximum=65_535)
CELERY_TASK_IGNORE_RESULT = True
CELERY_RESULT_EXPIRES = None  # no results, so nothing to clean up after them
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_SOFT_TIME_LIMIT = 240
CELERY_TASK_TIME_LIMIT = 300
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TIMEZONE = "UTC"
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
# What ran when the broker went away is delivered again: it need not run to its end here as well.
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = True
CELERY_BEAT_SCHEDULER = "aevon.beat:Scheduler"
CELERY_BEAT_MAX_LOOP_INTERVAL = 5
CANVAS_PERSIST_SECONDS = env.integer("CANVAS_PERSIST_SECONDS", 300, minimum=1, maximum=86_400)
# More unsaved canvases than this are not left to wait for the period's end.
CANVAS_BACKLOG = env.integer("CANVAS_BACKLOG", 20_000, minimum=1, maximum=100_000_000)

# --- Logs: never a secret, a token or a layout ----------------------------------------------

LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
LOG_LEVEL = env.choice("AEVON_LOG_LEVEL", "INFO", LOG_LEVELS)
LOG_FORMAT = env.log_format()
ACCESS_LOG = env.choice("AEVON_ACCESS_LOG", "off" if DEVELOPMENT else "on", ("on", "off"))
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"structlog": {"()": "aevon.telemetry.logs.formatter", "form": LOG_FORMAT}},
    "filters": {"once a minute": {"()": "aevon.telemetry.outages.OnceAMinute"}},
    "handlers": {
        "console": {
            "class": "logging.StreamHandler",
            "formatter": "structlog",
            "filters": ["once a minute"],
        }
    },
    "root": {"handlers": ["console"], "level": LOG_LEVEL},
    "loggers": {
        # Without the handlers that Django and granian bring: all records come out alike.
        "django": {"level": "INFO"},
        "django.request": {"level": "ERROR"},
        "_granian": {"level": "INFO", "propagate": True},
        "aevon.access": {"level": LOG_LEVEL if ACCESS_LOG == "on" else "WARNING"},
        # It warns at each attempt; the exception that follows says it once.
        "psycopg.pool": {"level": "ERROR"},
        # They tell every request, with its URL.
        "httpx": {"level": "WARNING"},
        "httpcore": {"level": "WARNING"},
    },
}
