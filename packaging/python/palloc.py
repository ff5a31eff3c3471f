# SPDX-License-Identifier: MIT OR Apache-2.0
"""Blobs in a file that outlives the process: palloc.h for Python, by ctypes.

    import palloc

    with palloc.Medium("notes.pba", palloc.DYNAMIC) as medium:
        root = medium.root(8)
        with medium.transaction() as change:                  # all of it, or nothing
            note = change.alloc(5)
            change.data(note)[:5] = b"hello"
            change.store(root, note.to_bytes(8, "little"))

    with palloc.Medium("notes.pba", palloc.READONLY) as medium:
        note = int.from_bytes(medium.data(medium.root(8)), "little")
        print(bytes(medium.data(note)[:5]))

A blob is named by its offset in the file, an int. Its bytes are a memoryview of the file itself: a store there is a store in the file. A view
of a blob that was freed or moved shows other bytes. A medium can't be closed while there are views of it.

Each method is named after the C function that it calls; palloc.h describes them. One that fails raises OSError with errno and the text of
palloc_error(). A medium may be used by several threads.

The module needs the shared library: PALLOC_LIBRARY is its path, or else the system finds it.
"""

import collections
import contextlib
import ctypes
import ctypes.util
import os
import sys
import weakref

__all__ = ["DEFAULT", "DYNAMIC", "SYNC", "READONLY", "FORCE", "SHARED", "SNAPSHOT_CLONE", "Block", "Medium", "Stat", "Transaction", "check", "version"]

DEFAULT = 0
DYNAMIC = 1
SYNC = 2
READONLY = 4
FORCE = 8
SHARED = 16
SNAPSHOT_CLONE = 32

Stat = collections.namedtuple("Stat", "medium_size live_blobs live_bytes free_blocks free_bytes largest_free")
Block = collections.namedtuple("Block", "offset size is_free")


class _Stat(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in Stat._fields]


_walk_fn = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint64, ctypes.c_int)
_report_fn = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_char_p)


def _load():
    path = os.environ.get("PALLOC_LIBRARY") or ctypes.util.find_library("palloc")
    library = ctypes.CDLL(path or ("palloc.dll" if sys.platform == "win32" else "libpalloc.so.0"), use_errno=True)
    handle, offset, size = ctypes.c_void_p, ctypes.c_uint64, ctypes.c_size_t
    integer, flags, path = ctypes.c_int, ctypes.c_uint32, ctypes.c_char_p
    for name, result, *arguments in (
        ("palloc_init", handle, path, flags),
        ("palloc_close", None, handle),
        ("palloc", offset, handle, size),
        ("pcalloc", offset, handle, size, size),
        ("palloc_root", offset, handle, size),
        ("pfree", None, handle, offset),
        ("prealloc", offset, handle, offset, size),
        ("palloc_size", offset, handle, offset),
        ("palloc_next", offset, handle, offset),
        ("palloc_data", ctypes.c_void_p, handle, offset),
        ("palloc_flush", integer, handle, offset, size),
        ("palloc_sync", integer, handle),
        ("palloc_stat", integer, handle, ctypes.POINTER(_Stat)),
        ("palloc_walk", integer, handle, _walk_fn, ctypes.c_void_p),
        ("palloc_snapshot", integer, handle, path, flags),
        ("palloc_begin", handle, handle),
        ("palloc_tx_alloc", offset, handle, size),
        ("palloc_tx_data", ctypes.c_void_p, handle, offset),
        ("palloc_tx_free", integer, handle, offset),
        ("palloc_tx_store", integer, handle, offset, ctypes.c_char_p, size),
        ("palloc_commit", integer, handle),
        ("palloc_cancel", None, handle),
        ("palloc_read_begin", integer, handle),
        ("palloc_read_end", None, handle),
        ("palloc_check", ctypes.c_int64, path, _report_fn, ctypes.c_void_p),
        ("palloc_error", ctypes.c_char_p),
        ("palloc_version", ctypes.c_char_p),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


_c = _load()


def _failure():
    return OSError(ctypes.get_errno(), _c.palloc_error().decode(errors="replace"))


def _checked(succeeded):
    if not succeeded:
        raise _failure()


def _by_errno(function, *arguments):
    """The result of a function that reports a failure by errno only."""
    ctypes.set_errno(0)
    result = function(*arguments)
    _checked(ctypes.get_errno() == 0)
    return result


def _size(number):
    if not 0 <= number <= sys.maxsize:
        raise OverflowError("a size is from 0 to sys.maxsize")
    return number


def version():
    """palloc_version: the version of the library."""
    return _c.palloc_version().decode()


def check(path):
    """palloc_check: the violations of the format in the closed medium `path`, a list of (offset, text)."""
    found = []
    report = _report_fn(lambda _, offset, what: found.append((offset, what.decode())))
    _checked(_c.palloc_check(os.fsencode(path), report, None) >= 0)
    return found


class Medium:
    """An open medium; palloc_init. A context manager that closes it."""

    def __init__(self, path, flags=DEFAULT):
        self._handle = None
        self._views = weakref.WeakValueDictionary()  # by their addresses as objects
        self._handle = _c.palloc_init(os.fsencode(path), flags)
        _checked(self._handle)
        self._readonly = bool(flags & READONLY)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __del__(self):
        # No views are left: each keeps the medium.
        if self._handle:
            _c.palloc_close(self._handle)

    def _open(self):
        if not self._handle:
            raise ValueError("the medium is closed")
        return self._handle

    def _view(self, address, size, readonly=False):
        array = (ctypes.c_ubyte * size).from_address(address)
        array.medium = self
        self._views[id(array)] = array
        view = memoryview(array).cast("B")
        return view.toreadonly() if readonly else view

    def close(self):
        """palloc_close. BufferError if there are views; if it could not be written, OSError, and the medium is closed."""
        if self._handle:
            if len(self._views):
                raise BufferError("there are views of the medium's blobs")
            handle, self._handle = self._handle, None
            _by_errno(_c.palloc_close, handle)

    def alloc(self, size):
        """palloc: a blob with undefined bytes."""
        offset = _c.palloc(self._open(), _size(size))
        _checked(offset)
        return offset

    def calloc(self, size):
        """pcalloc: a blob of zeros."""
        offset = _c.pcalloc(self._open(), 1, _size(size))
        _checked(offset)
        return offset

    def root(self, size):
        """palloc_root: the first blob, made of `size` zeros if there is none."""
        offset = _c.palloc_root(self._open(), _size(size))
        _checked(offset)
        return offset

    def free(self, offset):
        """pfree."""
        _by_errno(_c.pfree, self._open(), offset)

    def resize(self, offset, size):
        """prealloc: the offset of the blob, which may have moved."""
        offset = _c.prealloc(self._open(), offset, _size(size))
        _checked(offset)
        return offset

    def size(self, offset):
        """palloc_size."""
        size = _c.palloc_size(self._open(), offset)
        _checked(size)
        return size

    def data(self, offset):
        """palloc_data: a memoryview of all bytes of the blob."""
        address = _c.palloc_data(self._open(), offset)
        _checked(address)
        return self._view(address, self.size(offset), self._readonly)

    def flush(self, offset, size):
        """palloc_flush: these bytes are on the disk."""
        _checked(_c.palloc_flush(self._open(), offset, _size(size)) == 0)

    def sync(self):
        """palloc_sync: everything is on the disk."""
        _checked(_c.palloc_sync(self._open()) == 0)

    def stat(self):
        """palloc_stat, as a Stat."""
        out = _Stat()
        _checked(_c.palloc_stat(self._open(), out) == 0)
        return Stat(*(getattr(out, name) for name in Stat._fields))

    def snapshot(self, path, flags=0):
        """palloc_snapshot: a copy of the medium in a new file."""
        _checked(_c.palloc_snapshot(self._open(), os.fsencode(path), flags) == 0)

    def __iter__(self):
        """The offsets of the blobs, ascending; blobs may be freed meanwhile."""
        offset = 0
        while True:
            offset = _by_errno(_c.palloc_next, self._open(), offset)
            if offset == 0:
                return
            yield offset

    def blocks(self):
        """palloc_walk: a list of all blocks, live and free, as Block."""
        found = []

        def visit(_, offset, size, is_free):
            found.append(Block(offset, size, bool(is_free)))
            return 0

        _by_errno(_c.palloc_walk, self._open(), _walk_fn(visit), None)
        return found

    @contextlib.contextmanager
    def section(self):
        """palloc_read_begin, and at its end palloc_read_end: what a live reader reads in it does not change. Drop its views before it ends."""
        _checked(_c.palloc_read_begin(self._open()) == 0)
        try:
            yield self
        finally:
            if self._handle:
                _c.palloc_read_end(self._handle)

    def transaction(self):
        """palloc_begin."""
        return Transaction(self)


class Transaction:
    """Changes that happen together. A context manager: it commits at its end, and cancels if an exception leaves it."""

    def __init__(self, medium):
        self._handle = None
        self._medium = medium
        self._sizes = {}
        self._handle = _c.palloc_begin(medium._open())
        _checked(self._handle)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if self._handle:
            if kind is None:
                try:
                    self.commit()
                finally:
                    self.cancel()
            else:
                self.cancel()

    def __del__(self):
        self.cancel()

    def _open(self):
        # palloc_close has cancelled it, if the medium is closed.
        if not self._handle or not self._medium._handle:
            raise ValueError("the transaction has ended")
        return self._handle

    def alloc(self, size):
        """palloc_tx_alloc."""
        offset = _c.palloc_tx_alloc(self._open(), _size(size))
        _checked(offset)
        self._sizes[offset] = size or 16
        return offset

    def data(self, offset):
        """palloc_tx_data: a memoryview of the bytes that alloc was asked for; of 0, it is 16."""
        address = _c.palloc_tx_data(self._open(), offset)
        _checked(address)
        return self._medium._view(address, self._sizes[offset])

    def free(self, offset):
        """palloc_tx_free."""
        _checked(_c.palloc_tx_free(self._open(), offset) == 0)

    def store(self, at, data):
        """palloc_tx_store: the bytes at the offset `at` become `data`."""
        data = bytes(data)
        _checked(_c.palloc_tx_store(self._open(), at, data, len(data)) == 0)

    def commit(self):
        """palloc_commit. After a failure the transaction goes on."""
        _checked(_c.palloc_commit(self._open()) == 0)
        self._handle = None

    def cancel(self):
        """palloc_cancel, if it has not ended."""
        handle, self._handle = self._handle, None
        if handle and self._medium._handle:
            _c.palloc_cancel(handle)
