"""A property that is computed once per instance, also when several threads use it first."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

T = TypeVar("T")

#: The instance attribute that holds the lock.
_LOCK = "_once_lock"


class once(Generic[T]):
    """A property that is computed on first use and kept in the instance's `__dict__`.

    Other threads wait meanwhile. Properties of one instance may use one another, since they share
    one reentrant lock. `functools.cached_property` has no lock from Python 3.12 on, and one lock
    for all instances before.
    """

    def __init__(self, compute: Callable[[Any], T]) -> None:
        self._compute = compute
        self._name = compute.__name__
        self.__doc__ = compute.__doc__

    def __set_name__(self, owner: type[Any], name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type[Any]) -> once[T]: ...

    @overload
    def __get__(self, instance: object, owner: type[Any]) -> T: ...

    def __get__(self, instance: object | None, owner: type[Any]) -> once[T] | T:
        if instance is None:
            return self
        attributes = instance.__dict__
        # `setdefault` is atomic: of the locks that several threads offer, it keeps one.
        with attributes.setdefault(_LOCK, threading.RLock()):
            if self._name not in attributes:
                attributes[self._name] = self._compute(instance)
            value: T = attributes[self._name]
            return value
