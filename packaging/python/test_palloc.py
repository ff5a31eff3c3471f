# SPDX-License-Identifier: MIT OR Apache-2.0
"""Tests of palloc.py; c_tests/python.sh runs them with the library in build/lib."""

import errno
import os
import tempfile
import threading
import unittest

import palloc


class Test(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.TemporaryDirectory()
        self.addCleanup(self.directory.cleanup)
        self.path = os.path.join(self.directory.name, "a medium.pba")

    def open(self, flags=palloc.DYNAMIC):
        return palloc.Medium(self.path, flags)

    def fails(self, number, call, *arguments):
        with self.assertRaises(OSError) as caught:
            call(*arguments)
        self.assertEqual(caught.exception.errno, number)
        return str(caught.exception)

    def test_bytes_stay_in_the_file(self):
        with self.open() as medium:
            blob = medium.alloc(100)
            view = medium.data(blob)
            self.assertGreaterEqual(len(view), 100)
            view[:5] = b"hello"
            del view
        with open(self.path, "rb") as file:
            self.assertEqual(file.read()[blob : blob + 5], b"hello")
        with self.open(palloc.READONLY) as medium:
            self.assertEqual(list(medium), [blob])
            self.assertEqual(bytes(medium.data(blob)[:5]), b"hello")
            with self.assertRaises(TypeError):
                medium.data(blob)[0] = 1
            self.fails(errno.EROFS, medium.alloc, 1)
        self.assertEqual(palloc.check(self.path), [])

    def test_a_live_reader_reads_while_another_writes(self):
        try:
            writer = self.open(palloc.DYNAMIC | palloc.SHARED)
        except OSError as error:
            if error.errno == errno.ENOTSUP:
                self.skipTest("no live readers on this system or file system")
            raise
        root = writer.root(8)
        with self.open(palloc.SHARED | palloc.READONLY) as reader:
            self.fails(errno.EINVAL, reader.data, root)
            with reader.section():
                self.assertEqual(bytes(reader.data(root)), bytes(16))
            with writer.transaction() as change:
                change.store(root, b"a change")
            with reader.section():
                self.assertEqual(bytes(reader.data(reader.root(8))[:8]), b"a change")
            writer.close()
            self.fails(errno.ESTALE, reader.section().__enter__)

    def test_a_medium_with_views_is_not_closed(self):
        medium = self.open()
        view = medium.data(medium.calloc(10))
        part = view[2:4]
        del view
        self.assertRaises(BufferError, medium.close)
        del medium
        self.assertEqual(bytes(part), b"\0\0")  # the view keeps the medium
        self.fails(errno.EWOULDBLOCK, self.open)
        del part
        self.open().close()

    def test_a_closed_medium_is_refused(self):
        medium = self.open()
        change = medium.transaction()
        medium.close()
        medium.close()
        for call in (medium.sync, medium.stat, medium.transaction, lambda: list(medium), lambda: medium.alloc(1), change.commit):
            self.assertRaises(ValueError, call)
        change.cancel()

    def test_errors_have_errno_and_the_text(self):
        self.assertIn("a medium.pba", self.fails(errno.ENOENT, palloc.Medium, self.path))
        with self.open() as medium:
            blob = medium.alloc(10)
            for call in (medium.free, medium.data):
                self.assertIn("7", self.fails(errno.EINVAL, call, 7))
            self.assertRaises(OverflowError, medium.alloc, -1)
            medium.free(blob)
            self.fails(errno.EINVAL, medium.free, blob)
            medium.free(medium.alloc(3))  # a success after a failure

    def test_blobs_are_resized_counted_and_walked(self):
        with self.open() as medium:
            first, second = medium.calloc(100), medium.calloc(100)
            self.assertEqual(medium.root(50), first)
            medium.data(first)[99] = 7
            moved = medium.resize(first, 5000)
            self.assertEqual(medium.data(moved)[99], 7)
            self.assertGreaterEqual(medium.size(moved), 5000)
            stat = medium.stat()
            self.assertEqual(stat.live_blobs, 2)
            live = [block for block in medium.blocks() if not block.is_free]
            self.assertEqual([block.offset for block in live], [second, moved])
            self.assertEqual(sum(block.size for block in live), stat.live_bytes)
            for blob in medium:
                medium.free(blob)
            self.assertEqual(medium.stat().live_blobs, 0)

    def test_a_transaction_is_all_or_nothing(self):
        with self.open(palloc.DYNAMIC | palloc.SYNC) as medium:
            root = medium.root(8)
            with self.assertRaises(KeyError):
                with medium.transaction() as change:
                    change.store(root, b"x" * 8)
                    change.alloc(10)
                    raise KeyError
            self.assertEqual(bytes(medium.data(root)[:8]), bytes(8))
            self.assertEqual(medium.stat().live_blobs, 1)
            with medium.transaction() as change:
                note = change.alloc(5)
                change.data(note)[:] = b"hello"
                change.store(root, note.to_bytes(8, "little"))
            self.assertRaises(ValueError, change.commit)
            medium.snapshot(self.path + ".copy")
        with palloc.Medium(self.path + ".copy", palloc.READONLY) as copy:
            self.assertEqual(bytes(copy.data(int.from_bytes(copy.data(copy.root(8))[:8], "little"))[:5]), b"hello")

    def test_a_failed_commit_raises_and_cancels(self):
        with self.open() as medium:
            blob = medium.calloc(8)
            with self.assertRaises(OSError):
                with medium.transaction() as change:
                    change.store(blob, b"12345678")
                    medium.free(blob)
            self.assertEqual(medium.stat().live_blobs, 0)
            medium.transaction().cancel()

    def test_threads_share_a_medium(self):
        with self.open() as medium:
            threads = [threading.Thread(target=lambda: [medium.alloc(32) for _ in range(200)]) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self.assertEqual(medium.stat().live_blobs, 800)


if __name__ == "__main__":
    unittest.main()
