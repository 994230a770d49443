"""Flower's pages: all of them behind its password, and its task table readable.

Flower 2.2 serves `/metrics` and `/healthcheck` to everybody, also with FLOWER_BASIC_AUTH set
(mher/flower issue 1342), and has no setting for a style sheet of one's own.
"""

from __future__ import annotations


def patch_flower(style: bytes) -> None:
    """Have this process's Flower ask for its password on every page, and add `style` to the head of
    its task pages.
    """
    from flower.views.monitor import Healthcheck, Metrics
    from flower.views.tasks import TasksView
    from tornado.web import authenticated

    for page in (Metrics, Healthcheck):
        page.get = authenticated(page.get)
    render = TasksView.render_string
    TasksView.render_string = lambda *args, **options: render(*args, **options).replace(
        b"</head>", style + b"</head>"
    )
