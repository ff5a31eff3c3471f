# SPDX-License-Identifier: MIT OR Apache-2.0
"""gdb shows libpalloc's structs in a readable form: media, pools with their blocks, arenas.

`make install` puts this where gdb loads it with libpalloc.so. For a program with libpalloc.a: (gdb) source palloc-gdb.py
"""
import gdb
import gdb.printing

FLAGS = {1: "PALLOC_DYNAMIC", 2: "PALLOC_SYNC", 4: "PALLOC_READONLY", 8: "PALLOC_FORCE", 16: "PALLOC_SHARED"}


def difference(end, start):
    return int(end) - int(start)


class Medium:
    def __init__(self, value):
        self.value = value

    def to_string(self):
        flags = int(self.value["flags"])
        names = [name for bit, name in FLAGS.items() if flags & bit] or ["static"]
        return (f"medium {self.value['filename'].string()!r}, {'|'.join(names)}, {int(self.value['size'])} bytes, "
                f"first free block {int(self.value['first_free'])}")


class Pool:
    """Its children are the handles in use, and where their blocks' bytes are."""

    def __init__(self, value):
        self.value = value

    def handles(self):
        table, last = self.value["handle_table"], self.value["last_handle"]
        word = table.dereference().type.sizeof
        pointer = gdb.lookup_type("void").pointer().pointer()
        for number in range(1, difference(table, last) // word + 1):
            data = gdb.Value(int(table) - number * word).cast(pointer).dereference()
            if int(data) != 0:
                yield number, data

    def to_string(self):
        if int(self.value["handle_table"]) == 0:
            return "no pool"
        size = difference(self.value["handle_table"], self.value["buf_start"])
        return f"pool of {size} bytes at {int(self.value['buf_start']):#x}, {sum(1 for _ in self.handles())} blocks"

    def children(self):
        return ((f"[{number}]", data) for number, data in self.handles()) if int(self.value["handle_table"]) else iter(())


class Arena:
    def __init__(self, value):
        self.value = value

    def to_string(self):
        if int(self.value["mem"]) == 0:
            return "no arena"
        return f"arena at {int(self.value['mem']):#x}, {int(self.value['commited'])} of {int(self.value['size_bytes'])} bytes committed"


class GrowArena:
    def __init__(self, value):
        self.value = value

    def to_string(self):
        start = self.value["mem"]
        if int(start) == 0:
            return "no arena"
        used, committed, reserved = (difference(self.value[name], start) for name in ("next", "limit", "end"))
        return f"arena at {int(start):#x}, {used} bytes in use, {committed} committed, {reserved} reserved"


printers = gdb.printing.RegexpCollectionPrettyPrinter("libpalloc")
printers.add_printer("palloc_t", "^palloc_t$", Medium)
printers.add_printer("buflib_context", "^buflib_context$", Pool)
printers.add_printer("VMemArena", "^VMemArena$", Arena)
printers.add_printer("VMemGrowArena", "^VMemGrowArena$", GrowArena)
gdb.printing.register_pretty_printer(gdb.current_objfile(), printers, replace=True)
