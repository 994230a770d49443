"""What is made on first use, once for each instance, however many threads ask for it at the same
time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

T = TypeVar("T")

#: Where an instance keeps its lock, beside what was made.
_LOCK = "_once_lock"


class once(Generic[T]):
    """A property that is computed on first use and kept in the instance's `__dict__`.

    Threads that ask meanwhile wait for it. Properties of one instance may use one another: they
    share one reentrant lock. `functools.cached_property` has no lock from Python 3.12 on, and
    before that one for all instances.
    """

    def __init__(self, make: Callable[[Any], T]) -> None:
        self._make = make
        self._name = make.__name__
        self.__doc__ = make.__doc__

    def __set_name__(self, owner: type[Any], name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type[Any]) -> once[T]: ...

    @overload
    def __get__(self, instance: object, owner: type[Any]) -> T: ...

    def __get__(self, instance: object | None, owner: type[Any]) -> once[T] | T:
        if instance is None:
            return self
        kept = instance.__dict__
        # Of several threads that bring a lock, `setdefault` keeps one.
        with kept.setdefault(_LOCK, threading.RLock()):
            if self._name not in kept:
                kept[self._name] = self._make(instance)
            made: T = kept[self._name]
            return made
