/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef LIBPALLOC_PALLOC_HPP
#define LIBPALLOC_PALLOC_HPP

/*
 * palloc.hpp: the three allocators for C++17 and later. Header only; link with -lpalloc.
 *
 * Terms
 *
 *   medium, transaction    A file of blobs and a transaction on it (palloc.h). The destructors close and cancel.
 *   ptr<T>                 A pointer that is kept in a medium: the offset of a T, 8 bytes. It means the same in each run and each
 *                          process. medium::at gives the address of the T.
 *   arena                  A growing arena (vmem.h). The destructor releases it.
 *   pool, block, pin       A pool whose blocks move (buflib.h), a block, and a pin of it. The destructors free and unpin.
 *   medium_resource, arena_resource
 *                          std::pmr::memory_resource of a medium and of an arena.
 *
 * The names are in the namespace libpalloc, because palloc is a function. Each function is named after the C function that it calls,
 * fails iff that does, and has the same thread rules. get() returns what the C functions take, for those that have no name here:
 *
 *   palloc_first, palloc_walk              medium::begin does their work; palloc_walk has the free blocks too.
 *   palloc_unreachable, palloc_check, palloc_salvage
 *                                          They look for lost blobs and for damage; the last two take the name of a file.
 *   palloc_read_begin, palloc_read_end, palloc_get_readers
 *                                          Live readers (PALLOC_SHARED).
 *   vmem.h                                 All functions but those of the growing arena, vmem_grow_*.
 *   buflib.h                               All functions but those that the comments of pool, pin and block name.
 *
 * This program adds a note with each run, and prints all of them.
 *
 *   #include <palloc.hpp>
 *   #include <cstdio>
 *
 *   struct note {
 *       libpalloc::ptr<note> next;
 *       char text[24];
 *   };
 *
 *   int main()
 *   {
 *       libpalloc::medium medium("notes.pba", PALLOC_DYNAMIC);
 *       auto newest = medium.root<libpalloc::ptr<note>>();
 *
 *       libpalloc::transaction change(medium);
 *       auto added = change.make(note{*medium.at(newest), "one more note"});
 *       change.store(newest, added);
 *       change.commit();
 *
 *       for (auto p = *medium.at(newest); p; p = medium.at(p)->next)
 *           std::puts(medium.at(p)->text);
 *   }
 *
 * Types that a medium can hold
 *
 *   Types that are trivially copyable, and aligned to at most 16 bytes: their bytes are all of them, also in the next run. Such a type
 *   has ptr<T> in place of pointers. Addresses are valid in one run only. Media of the original may be aligned to less: use palloc_data
 *   and memcpy there.
 *
 * Errors
 *
 *   A failure throws libpalloc::error, which has the value of errno and the text of palloc_error(). Without exceptions
 *   (-fno-exceptions, or LIBPALLOC_NO_EXCEPTIONS defined), a function returns false, nullptr or a null ptr, a constructor leaves an
 *   object that converts to false, and errno and palloc_error() are as in C. Both kinds of files may be in one program. The memory
 *   resources throw std::bad_alloc in either case, as std::pmr demands: without exceptions that ends the program. Destructors report
 *   nothing: call close() to see whether a medium could be written.
 *
 * An object that is empty (made without arguments, moved from, closed, or failed) converts to false. Precondition of all other functions:
 * the object is not empty. A transaction ends before its medium, a block and a pin before their pool.
 */
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory_resource>
#include <new>
#include <stdexcept>
#include <type_traits>
#include <utility>

#include "buflib.h"
#include "palloc.h"
#include "vmem.h"

#if !defined(LIBPALLOC_NO_EXCEPTIONS) && !defined(__cpp_exceptions)
#define LIBPALLOC_NO_EXCEPTIONS
#endif

namespace libpalloc {
/* Functions that throw and functions that do not have different names for the linker. */
#ifdef LIBPALLOC_NO_EXCEPTIONS
inline namespace quiet {
#else
inline namespace throwing {
#endif

/* The exception of a failure. */
class error : public std::runtime_error {
public:
    error(int number, const char *text) : std::runtime_error(text), number_(number) {}

    /* The value of errno, PALLOC_E_DAMAGED for one. 0 if an arena or a pool failed: they have texts only. */
    int number() const noexcept { return number_; }

private:
    int number_;
};

namespace detail {
inline bool failed(int number, const char *text)
{
#ifdef LIBPALLOC_NO_EXCEPTIONS
    (void)number, (void)text;
    return false;
#else
    throw error(number, text);
#endif
}

/* Whether the call of palloc.h succeeded. */
inline bool checked(bool succeeded)
{
    return succeeded || failed(errno, palloc_error());
}

/* Whether the call of palloc.h, which reports a failure by errno only, succeeded. A success leaves errno as it was. */
template <class Call> bool checked_by_errno(Call call)
{
    const int before = errno;

    errno = 0;
    call();
    if (errno != 0)
        return checked(false);
    errno = before;
    return true;
}

/* T itself; a parameter of this type does not take part in the deduction of T. */
template <class T> struct same {
    using type = T;
};

template <class T> constexpr void can_be_stored()
{
    static_assert(std::is_trivially_copyable_v<T>, "a medium holds trivially copyable types");
    static_assert(alignof(T) <= 16, "blobs are aligned to 16 bytes");
}

/* The size of `count` objects; if no object can be as large, the largest number, which every allocation refuses. */
template <class T> constexpr std::size_t size_of(std::size_t count)
{
    return count <= SIZE_MAX / sizeof(T) ? count * sizeof(T) : SIZE_MAX;
}
} // namespace detail

/* The offset of a T in a medium; null if it is 0. ptr<void> is the offset of any blob. */
template <class T> struct ptr;

template <> struct ptr<void> {
    std::uint64_t offset = 0;

    explicit operator bool() const noexcept { return offset != 0; }

    friend bool operator==(ptr a, ptr b) noexcept { return a.offset == b.offset; }
    friend bool operator!=(ptr a, ptr b) noexcept { return a.offset != b.offset; }
    friend bool operator<(ptr a, ptr b) noexcept { return a.offset < b.offset; }
};

template <class T> struct ptr {
    std::uint64_t offset = 0;

    explicit operator bool() const noexcept { return offset != 0; }
    /* The n-th of an array of T. */
    ptr operator+(std::uint64_t n) const noexcept { return {offset + n * sizeof(T)}; }
    operator ptr<void>() const noexcept { return {offset}; }

    friend bool operator==(ptr a, ptr b) noexcept { return a.offset == b.offset; }
    friend bool operator!=(ptr a, ptr b) noexcept { return a.offset != b.offset; }
    friend bool operator<(ptr a, ptr b) noexcept { return a.offset < b.offset; }
};

static_assert(sizeof(ptr<int>) == 8 && std::is_trivially_copyable_v<ptr<int>>, "a ptr is stored as its offset");

/* The offset of a member of the object at `p`: member(root, &book::newest). */
template <class T, class Member> ptr<Member> member(ptr<T> p, Member T::*which) noexcept
{
    alignas(T) static const unsigned char bytes[sizeof(T)] = {};
    const T *const object = reinterpret_cast<const T *>(bytes);

    return {p.offset + static_cast<std::uint64_t>(reinterpret_cast<const unsigned char *>(&(object->*which)) - bytes)};
}

/* An open medium. */
class medium {
public:
    medium() noexcept = default;
    /* palloc_init. */
    explicit medium(const char *filename, std::uint32_t flags = PALLOC_DEFAULT) : pt_(palloc_init(filename, flags))
    {
        detail::checked(pt_ != nullptr);
    }
    medium(medium &&other) noexcept : pt_(std::exchange(other.pt_, nullptr)) {}
    medium &operator=(medium &&other) noexcept
    {
        std::swap(pt_, other.pt_);
        return *this;
    }
    ~medium() { palloc_close(pt_); }

    explicit operator bool() const noexcept { return pt_ != nullptr; }
    palloc_t *get() const noexcept { return pt_; }

    /* palloc_close. The medium is closed and empty in any case; a failure says that the next opening repairs it. */
    bool close()
    {
        return detail::checked_by_errno([this] { palloc_close(std::exchange(pt_, nullptr)); });
    }

    /* A blob with a copy of `value`. If it can't be filled, there is no blob. */
    template <class T> ptr<T> make(const T &value)
    {
        detail::can_be_stored<T>();
        const std::uint64_t offset = palloc(pt_, sizeof(T));
        void *const at = offset != 0 ? palloc_data(pt_, offset) : nullptr;

        if (!at) {
            const int number = errno;
            if (offset != 0)
                pfree(pt_, offset);
            errno = number;
            detail::checked(false);
            return {};
        }
        std::memcpy(at, &value, sizeof(T));
        return {offset};
    }

    /* pcalloc: a blob of `count` objects, whose bytes are zeros. */
    template <class T> ptr<T> make_array(std::size_t count)
    {
        detail::can_be_stored<T>();
        return checked<T>(pcalloc(pt_, count, sizeof(T)));
    }

    /* palloc_root: the first blob. */
    template <class T> ptr<T> root()
    {
        detail::can_be_stored<T>();
        return checked<T>(palloc_root(pt_, sizeof(T)));
    }

    /* palloc_at: the address, without a check that a blob is there. A ptr that is null is a failure. */
    template <class T> T *at(ptr<T> p) const
    {
        void *const address = p ? palloc_at(pt_, p.offset) : palloc_data(pt_, 0);

        detail::checked(address != nullptr);
        return static_cast<T *>(address);
    }

    /* palloc_data: the address of a blob. */
    template <class T> T *data(ptr<T> p) const
    {
        void *const address = palloc_data(pt_, p.offset);

        detail::checked(address != nullptr);
        return static_cast<T *>(address);
    }

    /* palloc_offset: the reverse of at and data. */
    template <class T> ptr<T> offset(const T *address) const { return checked<T>(palloc_offset(pt_, address)); }

    /* palloc_size, in bytes. */
    std::uint64_t size(ptr<void> blob) const { return checked<void>(palloc_size(pt_, blob.offset)).offset; }

    /* prealloc, to `count` objects. The bytes behind the old ones are undefined. */
    template <class T> ptr<T> resize(ptr<T> blob, std::size_t count)
    {
        return checked<T>(prealloc(pt_, blob.offset, detail::size_of<T>(count)));
    }

    /* pfree. */
    bool free(ptr<void> blob)
    {
        return detail::checked_by_errno([this, blob] { pfree(pt_, blob.offset); });
    }

    /* palloc_flush of `count` objects. */
    template <class T> bool flush(ptr<T> p, std::size_t count = 1)
    {
        return detail::checked(palloc_flush(pt_, p.offset, detail::size_of<T>(count)) == 0);
    }

    /* palloc_sync. */
    bool sync() { return detail::checked(palloc_sync(pt_) == 0); }

    /* palloc_trim: by how many bytes the file takes less space; without exceptions -1 on failure. */
    std::int64_t trim(std::uint64_t min_bytes = 0)
    {
        const std::int64_t bytes = palloc_trim(pt_, min_bytes);

        detail::checked(bytes >= 0);
        return bytes;
    }

    /* palloc_stat; without exceptions all zeros on failure. */
    struct palloc_stat stat() const
    {
        struct palloc_stat counts = {};

        detail::checked(::palloc_stat(pt_, &counts) == 0);
        return counts;
    }

    /* palloc_snapshot. */
    bool snapshot(const char *filename, std::uint32_t flags = 0)
    {
        return detail::checked(palloc_snapshot(pt_, filename, flags) == 0);
    }

    /* The blobs, by ascending offset, for a range-based for. Blobs may be freed meanwhile. */
    class iterator {
    public:
        iterator(palloc_t *pt, std::uint64_t offset) noexcept : pt_(pt), offset_(offset) {}
        ptr<void> operator*() const noexcept { return {offset_}; }
        iterator &operator++()
        {
            std::uint64_t next = 0;

            detail::checked_by_errno([&] { next = palloc_next(pt_, offset_); });
            offset_ = next;
            return *this;
        }
        bool operator!=(const iterator &other) const noexcept { return offset_ != other.offset_; }

    private:
        palloc_t *pt_;
        std::uint64_t offset_;
    };
    iterator begin() const { return ++iterator(pt_, 0); }
    iterator end() const noexcept { return iterator(pt_, 0); }

private:
    template <class T> static ptr<T> checked(std::uint64_t offset)
    {
        detail::checked(offset != 0);
        return {offset};
    }

    palloc_t *pt_ = nullptr;
};

/* Changes that happen together, in commit(); none of them, if it is destroyed before. */
class transaction {
public:
    transaction() noexcept = default;
    /* palloc_begin. */
    explicit transaction(medium &on) : tx_(palloc_begin(on.get())) { detail::checked(tx_ != nullptr); }
    transaction(transaction &&other) noexcept : tx_(std::exchange(other.tx_, nullptr)) {}
    transaction &operator=(transaction &&other) noexcept
    {
        std::swap(tx_, other.tx_);
        return *this;
    }
    ~transaction() { palloc_cancel(tx_); }

    explicit operator bool() const noexcept { return tx_ != nullptr; }
    palloc_tx *get() const noexcept { return tx_; }

    /* A blob with a copy of `value`. */
    template <class T> ptr<T> make(const T &value)
    {
        detail::can_be_stored<T>();
        const ptr<T> blob = alloc<T>(sizeof(T));

        if (blob)
            std::memcpy(palloc_tx_data(tx_, blob.offset), &value, sizeof(T));
        return blob;
    }

    /* A blob of `count` objects, whose bytes are zeros. */
    template <class T> ptr<T> make_array(std::size_t count)
    {
        detail::can_be_stored<T>();
        const ptr<T> blob = alloc<T>(detail::size_of<T>(count));

        if (blob)
            std::memset(palloc_tx_data(tx_, blob.offset), 0, count * sizeof(T));
        return blob;
    }

    /* palloc_tx_data: the address of a blob that this transaction made. */
    template <class T> T *data(ptr<T> blob) const
    {
        void *const address = palloc_tx_data(tx_, blob.offset);

        detail::checked(address != nullptr);
        return static_cast<T *>(address);
    }

    /* palloc_tx_free. */
    bool free(ptr<void> blob) { return detail::checked(palloc_tx_free(tx_, blob.offset) == 0); }

    /* palloc_tx_store: the object at `at` becomes `value`. member() names a part of an object. */
    template <class T> bool store(ptr<T> at, const typename detail::same<T>::type &value)
    {
        detail::can_be_stored<T>();
        return detail::checked(palloc_tx_store(tx_, at.offset, &value, sizeof(T)) == 0);
    }

    /* palloc_commit. The transaction is empty then; after a failure it goes on. */
    bool commit()
    {
        if (!detail::checked(palloc_commit(tx_) == 0))
            return false;
        tx_ = nullptr;
        return true;
    }

private:
    template <class T> ptr<T> alloc(std::size_t bytes)
    {
        const std::uint64_t offset = palloc_tx_alloc(tx_, bytes);

        detail::checked(offset != 0);
        return {offset};
    }

    palloc_tx *tx_ = nullptr;
};

/* A growing arena: objects that never move, and are freed together. */
class arena {
public:
    arena() noexcept = default;
    /* vmem_grow_init: it can't exceed `bytes`. */
    explicit arena(std::size_t bytes, std::uint32_t flags = 0) { checked(vmem_grow_init(&arena_, bytes, flags) != 0); }
    arena(arena &&other) noexcept : arena_(std::exchange(other.arena_, VMemGrowArena())) {}
    arena &operator=(arena &&other) noexcept
    {
        std::swap(arena_, other.arena_);
        return *this;
    }
    ~arena()
    {
        if (arena_.mem)
            vmem_grow_deinit(&arena_);
    }

    explicit operator bool() const noexcept { return arena_.mem != nullptr; }
    VMemGrowArena *get() noexcept { return &arena_; }

    /* An object; no destructor is called later, so its type must need none. */
    template <class T, class... Arguments> T *make(Arguments &&...arguments)
    {
        static_assert(std::is_trivially_destructible_v<T>, "an arena calls no destructors");
        void *const at = vmem_grow_push(&arena_, sizeof(T), alignof(T));

        return checked(at != nullptr) ? ::new (at) T(std::forward<Arguments>(arguments)...) : nullptr;
    }

    /* `count` objects, whose bytes are zeros. */
    template <class T> T *make_array(std::size_t count)
    {
        static_assert(std::is_trivially_copyable_v<T>, "an arena calls no constructors of arrays");
        void *const at = vmem_grow_push_zeroed(&arena_, count != 0 ? detail::size_of<T>(count) : 1, alignof(T));

        checked(at != nullptr);
        return static_cast<T *>(at);
    }

    /* vmem_grow_mark and vmem_grow_pop_to: frees what was made since. */
    std::size_t mark() const noexcept { return vmem_grow_mark(&arena_); }
    bool pop_to(std::size_t mark) { return checked(vmem_grow_pop_to(&arena_, mark) != 0); }

    /* vmem_grow_reset: frees all, and decommits all but `keep` bytes. */
    bool reset(std::size_t keep = 0) { return checked(vmem_grow_reset(&arena_, keep) != 0); }

private:
    static bool checked(bool succeeded) { return succeeded || detail::failed(0, vmem_get_error_message()); }

    VMemGrowArena arena_ = {};
};

/* A pool whose blocks move, in memory of the program. It can't be copied or moved. */
class pool {
public:
    /* buflib_init. */
    pool(void *memory, std::size_t bytes) noexcept { buflib_init(&context_, memory, bytes); }
    pool(const pool &) = delete;
    pool &operator=(const pool &) = delete;

    buflib_context *get() noexcept { return &context_; }

    /* While it lives, its block does not move. */
    class pin {
    public:
        pin(buflib_context *context, void *data) noexcept : context_(context), data_(data) {}
        pin(pin &&other) noexcept : context_(other.context_), data_(std::exchange(other.data_, nullptr)) {}
        pin &operator=(pin &&other) noexcept
        {
            std::swap(context_, other.context_);
            std::swap(data_, other.data_);
            return *this;
        }
        ~pin()
        {
            if (data_)
                buflib_put_data_pinned(context_, data_);
        }

        explicit operator bool() const noexcept { return data_ != nullptr; }
        void *data() const noexcept { return data_; }

    private:
        buflib_context *context_;
        void *data_;
    };

    /* A block, which is freed with it. */
    class block {
    public:
        block() noexcept = default;
        block(buflib_context *context, int handle) noexcept : context_(context), handle_(handle) {}
        block(block &&other) noexcept : context_(other.context_), handle_(std::exchange(other.handle_, 0)) {}
        block &operator=(block &&other) noexcept
        {
            std::swap(context_, other.context_);
            std::swap(handle_, other.handle_);
            return *this;
        }
        ~block()
        {
            if (handle_ > 0)
                buflib_free(context_, handle_);
        }

        explicit operator bool() const noexcept { return handle_ > 0; }
        int handle() const noexcept { return handle_; }

        /* buflib_get_data: valid until the next call that may move blocks. */
        void *data() const noexcept { return buflib_get_data(context_, handle_); }
        /* buflib_get_size, in bytes. */
        std::size_t size() const noexcept { return buflib_get_size(context_, handle_); }
        /* buflib_get_data_pinned. */
        pool::pin pin() const
        {
            void *const data = buflib_get_data_pinned(context_, handle_);

            if (!data)
                detail::failed(0, "the block can't be pinned");
            return pool::pin(context_, data);
        }

    private:
        buflib_context *context_ = nullptr;
        int handle_ = 0;
    };

    /* buflib_alloc_ex. */
    block alloc(std::size_t bytes, const char *name = nullptr, buflib_callbacks *callbacks = nullptr)
    {
        const int handle = buflib_alloc_ex(&context_, bytes, name, callbacks);

        if (handle <= 0)
            detail::failed(0, handle == BUFLIB_REFUSED ? "a callback is running, or the pool is damaged" : "the pool is full");
        return block(&context_, handle);
    }

private:
    buflib_context context_;
};

/*
 * Memory of blobs, for containers of this run: they hold addresses, so the next run can't use what they left. A kill leaves their blobs;
 * give them a medium of their own. Alignments of more than the page size may be refused.
 */
class medium_resource : public std::pmr::memory_resource {
public:
    explicit medium_resource(medium &on) noexcept : pt_(on.get()) {}

private:
    void *do_allocate(std::size_t bytes, std::size_t alignment) override
    {
        const std::uint64_t offset = alignment > 16 ? palloc_aligned(pt_, alignment, bytes) : palloc(pt_, bytes);
        void *const at = offset != 0 ? palloc_data(pt_, offset) : nullptr;

        if (at && reinterpret_cast<std::uintptr_t>(at) % alignment == 0)
            return at;
        if (offset != 0)
            pfree(pt_, offset);
        return std::pmr::null_memory_resource()->allocate(bytes, alignment); /* throws std::bad_alloc */
    }
    void do_deallocate(void *at, std::size_t, std::size_t) override { pfree(pt_, palloc_offset(pt_, at)); }
    bool do_is_equal(const std::pmr::memory_resource &other) const noexcept override { return this == &other; }

    palloc_t *pt_;
};

/* Memory of an arena. Memory that is deallocated is used again if nothing was allocated since, or else after pop_to or reset. */
class arena_resource : public std::pmr::memory_resource {
public:
    explicit arena_resource(arena &on) noexcept : arena_(on.get()) {}

private:
    void *do_allocate(std::size_t bytes, std::size_t alignment) override
    {
        void *const at = vmem_grow_push(arena_, bytes != 0 ? bytes : 1, alignment);

        return at ? at : std::pmr::null_memory_resource()->allocate(bytes, alignment); /* throws std::bad_alloc */
    }
    void do_deallocate(void *at, std::size_t bytes, std::size_t) override
    {
        if (static_cast<std::uint8_t *>(at) + (bytes != 0 ? bytes : 1) == arena_->next)
            vmem_grow_pop_to(arena_, static_cast<std::size_t>(static_cast<std::uint8_t *>(at) - arena_->mem));
    }
    bool do_is_equal(const std::pmr::memory_resource &other) const noexcept override { return this == &other; }

    VMemGrowArena *arena_;
};

} // namespace throwing or quiet
} // namespace libpalloc

#endif
