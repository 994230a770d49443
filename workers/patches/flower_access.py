"""Flower with a password on every page, and with a style sheet for its task pages.

Flower 2.2 serves `/metrics` and `/healthcheck` without a password even if FLOWER_BASIC_AUTH is set
(mher/flower issue 1342), and it has no setting for a style sheet.
"""

from __future__ import annotations


def patch_flower(style: bytes) -> None:
    """Require the password on every page, and add `style` to the head of the task pages."""
    from flower.views.monitor import Healthcheck, Metrics
    from flower.views.tasks import TasksView
    from tornado.web import authenticated

    for page in (Metrics, Healthcheck):
        page.get = authenticated(page.get)
    render = TasksView.render_string
    TasksView.render_string = lambda *args, **options: render(*args, **options).replace(
        b"</head>", style + b"</head>"
    )
