/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Casts that compile without a warning in C and in C++. */
#ifdef __cplusplus
#define LIBPALLOC_CAST_(type, value) static_cast<type>(value)
#define LIBPALLOC_ADDRESS_(pointer) reinterpret_cast<uintptr_t>(pointer)
#else
#define LIBPALLOC_CAST_(type, value) ((type)(value))
#define LIBPALLOC_ADDRESS_(pointer) ((uintptr_t)(pointer))
#endif

/* vmem_align_forward, vmem_align_backward and vmem_is_aligned without checks. */
static inline uintptr_t vmem_align_forward_fast(uintptr_t address, int align)
{
    const uintptr_t mask = LIBPALLOC_CAST_(uintptr_t, align) - 1;

    return (address + mask) & ~mask;
}

static inline uintptr_t vmem_align_backward_fast(uintptr_t address, int align)
{
    return address & ~(LIBPALLOC_CAST_(uintptr_t, align) - 1);
}

static inline VMemResult vmem_is_aligned_fast(uintptr_t address, int align)
{
    return (address & (LIBPALLOC_CAST_(uintptr_t, align) - 1)) == 0;
}

/* Returns 1 if the arena is initialized and its numbers agree; or else 0, also if it is NULL. Never fails. */
static inline VMemResult vmem_arena_is_valid(const VMemArena *arena)
{
    return arena && arena->mem && arena->size_bytes != 0 && arena->commited <= arena->size_bytes;
}

/* Returns the size of the pages that `num_bytes` bytes need. Returns 0 if that is beyond the address space. Never fails. */
static inline VMemSize vmem_arena_calc_bytes_used_for_size(VMemSize num_bytes)
{
    const VMemSize mask = vmem_get_page_size() - 1;

    return (num_bytes + mask) & ~mask;
}

/*
 * The growing arena: allocates bytes one after the other, and frees them together.
 *
 *   VMemGrowArena arena;
 *   VMemSize mark;
 *   char *name;
 *
 *   vmem_grow_init(&arena, (VMemSize)1 << 36, 0);  at most 64 GiB
 *   mark = vmem_grow_mark(&arena);
 *   name = (char *)vmem_grow_push(&arena, 100, 1);
 *   ...
 *   vmem_grow_pop_to(&arena, mark);                frees name
 *   vmem_grow_deinit(&arena);
 *
 * Pushed bytes never move. The arena commits pages ahead of use: 64 KiB at first, then twice as much
 * each time, up to 2 MiB, and less if memory is short. So most pushes are one addition.
 */

/*
 * Allocates `size` bytes at a multiple of `align`, a power of two. Their contents are undefined.
 *
 * Returns their address, or NULL on failure. Fails, and changes nothing, iff:
 * - `size` is 0, or `align` is not a power of two.
 * - `arena` is NULL or not initialized.
 * - The arena's reservation has too few bytes left.
 * - vmem_commit of the missing pages would.
 */
static inline void *vmem_grow_push(VMemGrowArena *arena, VMemSize size, VMemSize align)
{
    if (arena && (align & (align - 1)) == 0) {
        const VMemSize left = LIBPALLOC_ADDRESS_(arena->limit) - LIBPALLOC_ADDRESS_(arena->next);
        const VMemSize pad = (0 - LIBPALLOC_ADDRESS_(arena->next)) & (align - 1);

        if (size - 1 < left && pad <= left - size) {
            uint8_t *const at = arena->next + pad;
            arena->next = at + size;
            return at;
        }
    }
    return vmem_grow_push_more(arena, size, align);
}

/* As vmem_grow_push, but the bytes are zero. Clears only bytes that were in use before, because fresh memory is zero. */
static inline void *vmem_grow_push_zeroed(VMemGrowArena *arena, VMemSize size, VMemSize align)
{
    uint8_t *const at = LIBPALLOC_CAST_(uint8_t *, vmem_grow_push(arena, size, align));

    if (at && at < arena->fresh) {
        const VMemSize used = LIBPALLOC_CAST_(VMemSize, arena->fresh - at);
        memset(at, 0, used < size ? used : size);
    }
    return at;
}

/* Returns the number of bytes in use, padding included, for vmem_grow_pop_to. `arena` must be initialized. Never fails. */
static inline VMemSize vmem_grow_mark(const VMemGrowArena *arena)
{
    return LIBPALLOC_CAST_(VMemSize, arena->next - arena->mem);
}

#ifdef VMEM_DEBUG
/* The functions of the growing arena, which close the bytes that are not in use, and open those that are. */
static inline void *vmem_grow_push_debug_(VMemGrowArena *arena, VMemSize size, VMemSize align)
{
    const uint8_t *const limit = arena ? arena->limit : NULL;
    uint8_t *const at = LIBPALLOC_CAST_(uint8_t *, vmem_grow_push(arena, size, align));

    if (at && arena->limit != limit)
        VMEM_DEBUG_CLOSE_(arena->next, LIBPALLOC_CAST_(VMemSize, arena->limit - arena->next));
    if (at)
        VMEM_DEBUG_UNDEFINED_(at, size);
    return at;
}

static inline void *vmem_grow_push_zeroed_debug_(VMemGrowArena *arena, VMemSize size, VMemSize align)
{
    uint8_t *const at = LIBPALLOC_CAST_(uint8_t *, vmem_grow_push_debug_(arena, size, align));

    if (at)
        VMEM_DEBUG_OPEN_(at, size);
    if (at && at < arena->fresh) {
        const VMemSize used = LIBPALLOC_CAST_(VMemSize, arena->fresh - at);
        memset(at, 0, used < size ? used : size);
    }
    return at;
}

static inline VMemResult vmem_grow_pop_to_debug_(VMemGrowArena *arena, VMemSize mark)
{
    const uint8_t *const next = arena ? arena->next : NULL;
    const VMemResult result = vmem_grow_pop_to(arena, mark);

    if (result)
        VMEM_DEBUG_CLOSE_(arena->next, LIBPALLOC_CAST_(VMemSize, next - arena->next));
    return result;
}

/* Bytes that are not committed any more are opened, so that other mappings can use their addresses. */
static inline VMemResult vmem_grow_reset_debug_(VMemGrowArena *arena, VMemSize keep_bytes)
{
    const uint8_t *const limit = arena ? arena->limit : NULL;
    const VMemResult result = vmem_grow_reset(arena, keep_bytes);

    if (result && arena->limit < limit)
        VMEM_DEBUG_OPEN_(arena->limit, LIBPALLOC_CAST_(VMemSize, limit - arena->limit));
    if (result)
        VMEM_DEBUG_CLOSE_(arena->mem, LIBPALLOC_CAST_(VMemSize, arena->limit - arena->mem));
    return result;
}

static inline VMemResult vmem_grow_deinit_debug_(VMemGrowArena *arena)
{
    const uint8_t *const mem = arena ? arena->mem : NULL, *const limit = arena ? arena->limit : NULL;
    const VMemResult result = vmem_grow_deinit(arena);

    if (result)
        VMEM_DEBUG_OPEN_(mem, LIBPALLOC_CAST_(VMemSize, limit - mem));
    return result;
}

#define vmem_grow_push vmem_grow_push_debug_
#define vmem_grow_push_zeroed vmem_grow_push_zeroed_debug_
#define vmem_grow_pop_to vmem_grow_pop_to_debug_
#define vmem_grow_reset vmem_grow_reset_debug_
#define vmem_grow_deinit vmem_grow_deinit_debug_
#endif

#undef LIBPALLOC_CAST_
#undef LIBPALLOC_ADDRESS_

/* The sizes that programs rely on. */
typedef char vmem_layout_is_as_documented_[
    sizeof(VMemProtect) == 1 && sizeof(VMemResult) == 4 && sizeof(VMemUsageStatus) == 2 * sizeof(void *) &&
    sizeof(VMemArena) == 3 * sizeof(void *) && sizeof(VMemRangeInfo) == 3 * sizeof(void *) &&
    sizeof(VMemGrowArena) == 7 * sizeof(void *) ? 1 : -1];
