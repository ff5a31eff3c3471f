/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* palloc.hpp: what it promises beside palloc.h, vmem.h and buflib.h. Built with and without exceptions by c_tests/cxx.sh. */
#include <cerrno>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory_resource>
#include <string>
#include <vector>

#include <palloc.hpp>

extern "C" {
#include "../tap.h"
}

using namespace libpalloc;

namespace {

/* Whether `call` fails with this errno, in the way of this build. */
template <class Call> bool fails(int number, const char *part, Call call)
{
#ifdef LIBPALLOC_NO_EXCEPTIONS
    errno = 0;
    return CHECK(!call()) && CHECK_ERRNO(number) && (number == 0 || CHECK_STR_CONTAINS(palloc_error(), part));
#else
    try {
        call();
    } catch (const libpalloc::error &caught) {
        return CHECK_EQ_I(caught.number(), number) && CHECK_STR_CONTAINS(caught.what(), part);
    }
    return CHECK(false);
#endif
}

struct note {
    ptr<note> next;
    char text[24];
};

struct book {
    uint64_t notes;
    ptr<note> newest;
};

void handles_close_what_they_opened()
{
    TEST("a-medium-is-closed-at-the-end-of-its-scope");
    for (int run = 0; run < 2; run++) {
        medium first("scope.pba", PALLOC_DYNAMIC);
        CHECK(bool(first));
        fails(PALLOC_E_LOCKED, "scope.pba", [] { return bool(medium("scope.pba", PALLOC_DYNAMIC)); });
    }

    TEST("a-medium-that-is-moved-is-closed-once");
    {
        medium first("moved.pba", PALLOC_DYNAMIC);
        medium second(std::move(first)), third;
        CHECK(!first);
        third = std::move(second);
        CHECK(!second && third);
        CHECK(third.close());
        CHECK(!third);
        CHECK(bool(medium("moved.pba", PALLOC_READONLY)));
    }

    TEST("a-failed-constructor-names-the-file");
    fails(ENOENT, "absent.pba", [] { return bool(medium("absent.pba")); });
}

void pointers_are_offsets()
{
    TEST("a-ptr-is-stored-as-the-offset-that-C-functions-use");
    medium on("offsets.pba", PALLOC_DYNAMIC);
    auto first = on.make(note{{}, "first"});
    auto second = on.make(note{first, "second"});
    uint64_t stored = 0;

    memcpy(&stored, palloc_data(on.get(), second.offset), sizeof stored);
    CHECK_EQ_U(stored, first.offset);
    CHECK_EQ_U(on.offset(on.at(second)->text).offset, second.offset + 8);
    CHECK(on.at(second)->next == first && first < second && first != second && !ptr<note>());
    CHECK_STR(on.data(on.at(second)->next)->text, "first");
    CHECK_EQ_U(member(second, &note::text).offset, second.offset + 8);
    CHECK_EQ_U((ptr<book>{160} + 3).offset, 160 + 3 * sizeof(book));

    TEST("a-null-ptr-and-a-stray-one-fail");
    fails(EINVAL, "", [&] { return on.at(ptr<note>()) != nullptr; });
    fails(EINVAL, "", [&] { return on.data(ptr<note>()) != nullptr; });
    fails(EINVAL, "", [&] { return on.data(ptr<note>{first.offset + 16}) != nullptr; });
    fails(EINVAL, "", [&] { return on.free(ptr<void>{first.offset + 16}); });
    fails(ENOMEM, "", [&] { return bool(on.make_array<note>(SIZE_MAX / 8)); });
    fails(ENOMEM, "", [&] { return bool(on.resize(first, SIZE_MAX / 8)); });

    TEST("an-array-is-zeros-and-is-resized");
    auto numbers = on.make_array<uint32_t>(100);
    const std::vector<uint32_t> zeros(100);
    CHECK_MEM(on.data(numbers), zeros.data(), 400);
    *on.at(numbers + 99) = 7;
    numbers = on.resize(numbers, 10000);
    CHECK(on.size(numbers) >= 40000);
    CHECK_EQ_U(*on.at(numbers + 99), 7);
    CHECK(on.flush(numbers + 99) && on.sync());
    CHECK_EQ_I(on.trim(), 0);

    TEST("blobs-may-be-freed-while-a-loop-walks-them");
    CHECK_EQ_U(on.stat().live_blobs, 3);
    for (auto blob : on)
        CHECK(on.free(blob));
    CHECK_EQ_U(on.stat().live_blobs, 0);

    TEST("errno-is-kept-by-calls-that-succeed");
    errno = 77;
    CHECK(on.free(on.make(5)));
    CHECK(!(on.begin() != on.end()));
    CHECK(on.close());
    CHECK_ERRNO(77);
}

void transactions_are_all_or_nothing()
{
    TEST("a-transaction-that-is-destroyed-does-nothing");
    medium on("notes.pba", PALLOC_DYNAMIC);
    const auto root = on.root<book>();
    {
        transaction change(on);
        CHECK(bool(change.make(note{{}, "lost"})));
        CHECK(change.store(member(root, &book::notes), 99));
    }
    CHECK_EQ_U(on.stat().live_blobs, 1);
    CHECK_EQ_U(on.at(root)->notes, 0);

    TEST("a-commit-makes-and-links-and-the-next-run-finds-it");
    for (const char *text : {"one", "two"}) {
        transaction change(on);
        note fresh = {on.at(root)->newest, ""};
        strcpy(fresh.text, text);
        const auto added = change.make(fresh);
        CHECK_STR(change.data(added)->text, text);
        CHECK(change.store(root, {on.at(root)->notes + 1, added}));
        CHECK(change.commit());
        CHECK(!change);
    }
    CHECK(on.snapshot("copy.pba"));
    CHECK(on.close());
    for (const char *file : {"notes.pba", "copy.pba"}) {
        medium again(file, PALLOC_READONLY);
        const auto first = again.root<book>();
        CHECK_EQ_U(again.at(first)->notes, 2);
        CHECK_STR(again.at(again.at(first)->newest)->text, "two");
        CHECK_STR(again.at(again.at(again.at(first)->newest)->next)->text, "one");
        fails(EROFS, "", [&] { return bool(again.make(1)); });
        fails(EROFS, "", [&] { return bool(transaction(again)); });
    }
    CHECK_EQ_I(palloc_check("copy.pba", nullptr, nullptr), 0);

    TEST("after-a-failed-commit-the-transaction-goes-on");
    medium other("other.pba", PALLOC_DYNAMIC);
    const auto gone = other.make(uint64_t(1));
    transaction change(other);
    const auto zeros = change.make_array<char>(1000);
    CHECK(change.store(gone, 2));
    CHECK(other.free(gone));
    fails(EINVAL, "", [&] { return change.commit(); });
    CHECK(bool(change));
    transaction moved(std::move(change));
    CHECK(!change && moved);
    fails(EINVAL, "", [&] { return moved.free(gone); });
    CHECK_EQ_I(moved.data(zeros)[999], 0);
}

void memory_resources()
{
    TEST("containers-take-their-memory-from-a-medium-and-give-it-back");
    medium on("resource.pba", PALLOC_DYNAMIC);
    medium_resource blobs(on);
    {
        std::pmr::vector<int> numbers(&blobs);
        for (int i = 0; i < 10000; i++)
            numbers.push_back(i);
        std::pmr::map<int, std::pmr::string> names(&blobs);
        for (int i = 0; i < 100; i++)
            names[i] = "a name that is longer than a short string";
        CHECK_EQ_I(numbers[9999], 9999);
        CHECK(palloc_offset(on.get(), &numbers[9999]) != 0);
        CHECK(palloc_offset(on.get(), names[99].data()) != 0);
        CHECK_EQ_U(on.stat().live_blobs, 201);
    }
    CHECK_EQ_U(on.stat().live_blobs, 0);
    void *const page = blobs.allocate(100, 1024);
    CHECK_EQ_U(reinterpret_cast<uintptr_t>(page) % 1024, 0);
    blobs.deallocate(page, 100, 1024);
    CHECK_EQ_U(on.stat().live_blobs, 0);
    CHECK(blobs == blobs && blobs != *std::pmr::new_delete_resource());

    TEST("containers-take-their-memory-from-an-arena");
    arena ground(1 << 20);
    arena_resource pushed(ground);
    {
        std::pmr::vector<int> numbers(&pushed);
        numbers.resize(1000);
        CHECK(reinterpret_cast<uint8_t *>(&numbers[0]) >= ground.get()->mem);
        CHECK(reinterpret_cast<uint8_t *>(&numbers[999]) < ground.get()->next);
    }
    CHECK_EQ_U(ground.mark(), 0);
    void *const aligned = pushed.allocate(0, 4096);
    CHECK_EQ_U(reinterpret_cast<uintptr_t>(aligned) % 4096, 0);
    pushed.deallocate(aligned, 0, 4096);

#ifndef LIBPALLOC_NO_EXCEPTIONS
    TEST("a-resource-that-has-no-memory-throws-bad_alloc-and-keeps-nothing");
    auto refuses = [](std::pmr::memory_resource &resource, size_t bytes, size_t alignment) {
        try {
            (void)resource.allocate(bytes, alignment);
        } catch (const std::bad_alloc &) {
            return true;
        }
        return false;
    };
    CHECK(refuses(blobs, SIZE_MAX / 2, 8));
    CHECK(refuses(blobs, 100, size_t(1) << 31));
    CHECK_EQ_U(on.stat().live_blobs, 0);
    CHECK(refuses(pushed, 2 << 20, 8));
#endif
}

void arenas()
{
    TEST("an-arena-makes-objects-and-frees-them-together");
    arena on(1 << 20);
    const size_t start = on.mark();
    auto *one = on.make<std::pair<int, int>>(3, 4);
    auto *many = on.make_array<uint64_t>(1000);
    CHECK(one->second == 4 && many[999] == 0);
    many[999] = 1;
    CHECK(on.pop_to(start));
    CHECK(on.make<int>() == static_cast<void *>(one));
    CHECK(on.make_array<uint64_t>(1000)[999] == 0);
    arena moved(std::move(on));
    CHECK(!on && moved && moved.reset());

    TEST("an-arena-that-is-full-fails-and-goes-on");
    fails(0, "vmem_grow", [&] { return moved.make_array<char>(2 << 20) != nullptr; });
    fails(0, "vmem_grow", [&] { return moved.make_array<uint64_t>(SIZE_MAX / 4) != nullptr; });
    fails(0, "vmem_grow", [] { return bool(arena(0)); });
    CHECK(moved.make_array<char>(1 << 20) != nullptr);
}

void pools()
{
    TEST("a-block-is-freed-at-the-end-of-its-scope");
    alignas(8) static char memory[4096];
    pool on(memory, sizeof memory);
    const size_t room = buflib_allocatable(on.get());
    {
        pool::block first = on.alloc(1000, "first"), second = on.alloc(1000);
        CHECK_STR(buflib_get_name(on.get(), first.handle()), "first");
        CHECK(first.size() >= 1000 && first.handle() != second.handle());
        pool::block moved(std::move(first));
        CHECK(!first && moved);
        moved = on.alloc(500);
        moved = pool::block();
    }
    CHECK_EQ_U(buflib_allocatable(on.get()), room);

    TEST("a-pinned-block-stays-and-one-without-a-pin-moves");
    pool::block gap = on.alloc(1000), kept = on.alloc(1000);
    {
        pool::pin pinned = kept.pin();
        pool::pin holds(std::move(pinned));
        CHECK(!pinned && holds.data() == kept.data());
        gap = pool::block();
        fails(0, "full", [&] { return bool(on.alloc(2500)); });
        CHECK(holds.data() == kept.data());
    }
    CHECK_EQ_U(buflib_pin_count(on.get(), kept.handle()), 0);
    void *const before = kept.data();
    CHECK(bool(on.alloc(2500)));
    CHECK(kept.data() != before);
    fails(0, "pinned", [] { return bool(pool::block().pin()); });
}

} // namespace

int main()
{
    handles_close_what_they_opened();
    pointers_are_offsets();
    transactions_are_all_or_nothing();
    memory_resources();
    arenas();
    pools();
    return tap_done();
}
