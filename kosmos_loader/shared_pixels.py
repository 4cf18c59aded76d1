"""Pages from process to process, without their pixels going through pickle.

Pixels come over in memory that has no name (`memfd_create`, and its descriptor sent through the
pipe): nothing is copied on the way, nothing is left behind by whatever dies when, and the small
/dev/shm of a container does not bound it. Where there is no such memory, they are copied through
the pipe.
"""

from __future__ import annotations

import itertools
import math
import mmap
import os
import sys
from dataclasses import fields
from multiprocessing import reduction
from multiprocessing.connection import Connection
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from kosmos_loader.document import Page

MOST_MAPPED = 128
"""Pages kept at a time whose pixels stay in shared memory. Each takes a file descriptor, of which a
process often has 1,024; the pixels of further pages are copied."""


def send_page(pipe: Connection, page: Page) -> None:
    """Sends `page` to the process at the other end; `OSError` where that has ended."""
    told = {f.name: getattr(page, f.name) for f in fields(page) if f.name != "pixels"}
    pixels = np.ascontiguousarray(page.pixels)
    memory = _shared(pixels) if page.error is None else None
    try:
        pipe.send((told, memory is not None))
        if memory is not None:
            # Windows alone looks at the process id, and has no such memory
            reduction.send_handle(pipe, memory, 0)
        elif page.error is None:
            pipe.send_bytes(pixels.data.cast("B"))
    finally:
        if memory is not None:
            os.close(memory)


def receive_page(pipe: Connection) -> Page:
    """The page that `send_page` sent; `EOFError` or `OSError` where the other process has ended."""
    told, shared = pipe.recv()
    if told["error"] is not None:
        return Page(**told)
    shape = told["height"], told["width"], 3
    if shared:
        return Page(**told, pixels=_mapped(reduction.recv_handle(pipe), shape))
    values = np.empty(math.prod(shape), np.uint8)
    pipe.recv_bytes_into(values.data)
    return Page(**told, pixels=values.reshape(shape))


def _shared(pixels: NDArray[np.uint8]) -> int | None:
    """A descriptor of memory that holds `pixels`, None where there is none to be had."""
    if sys.platform != "linux":
        return None
    left = pixels.data.cast("B")
    try:
        memory = os.memfd_create("kosmos-loader page")
    except OSError:  # the process has no descriptor left
        return None
    try:
        while left:
            left = left[os.write(memory, left) :]
    except OSError:
        os.close(memory)
        return None
    return memory


_all_mapped: WeakValueDictionary[int, NDArray[np.uint8]] = WeakValueDictionary()
"""Arrays of this process that own shared memory; those that show a page are views of them."""

_next_mapped = itertools.count()


def _mapped(memory: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """The pixels in `memory`, which goes with the last array that shows them."""
    with open(memory, "rb") as file:
        if len(_all_mapped) < MOST_MAPPED:
            values = np.frombuffer(mmap.mmap(memory, 0), np.uint8)
            _all_mapped[next(_next_mapped)] = values
        else:
            values = np.empty(math.prod(shape), np.uint8)
            file.seek(0)
            file.readinto(values.data)
    return values.reshape(shape)
